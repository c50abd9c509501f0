// y = x / (1 + e^-x)

#include "operators/elementwise.h"

namespace onebit {

ONEBIT_OPERATOR(silu){"silu", 1, [](Source& source) { return elementwise(source, Step::silu); }};

}  // namespace onebit
