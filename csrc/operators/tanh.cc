// y = (e^2x - 1) / (e^2x + 1)

#include "operators/elementwise.h"

namespace onebit {

ONEBIT_OPERATOR(tanh){"tanh", 1, [](Source& source) { return elementwise(source, Step::tanh); }};

}  // namespace onebit
