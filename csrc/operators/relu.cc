// y = max(x, 0)

#include "operators/elementwise.h"

namespace onebit {

ONEBIT_OPERATOR(relu){"relu", 1, [](Source& source) { return elementwise(source, Step::relu); }};

}  // namespace onebit
