// y = min(max(x, -1), 1)

#include "operators/elementwise.h"

namespace onebit {

ONEBIT_OPERATOR(hardtanh){"hardtanh", 1, [](Source& source) { return elementwise(source, Step::hardtanh); }};

}  // namespace onebit
