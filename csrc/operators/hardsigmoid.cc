// y = min(max(x + 3, 0), 6) / 6

#include "operators/elementwise.h"

namespace onebit {

ONEBIT_OPERATOR(hardsigmoid){"hardsigmoid", 1, [](Source& source) { return elementwise(source, Step::hardsigmoid); }};

}  // namespace onebit
