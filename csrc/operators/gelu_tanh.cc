// y = x·(1 + tanh(sqrt(2/π)·(x + 0.044715·x^3))) / 2, which is near gelu

#include "operators/elementwise.h"

namespace onebit {

ONEBIT_OPERATOR(gelu_tanh){"gelu_tanh", 1, [](Source& source) { return elementwise(source, Step::gelu_tanh); }};

}  // namespace onebit
