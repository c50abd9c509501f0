// y = 1 / (1 + e^-x)

#include "operators/elementwise.h"

namespace onebit {

ONEBIT_OPERATOR(sigmoid){"sigmoid", 1, [](Source& source) { return elementwise(source, Step::sigmoid); }};

}  // namespace onebit
