// y = x·Φ(x), with the integral Φ of the normal distribution

#include "operators/elementwise.h"

namespace onebit {

ONEBIT_OPERATOR(gelu){"gelu", 1, [](Source& source) { return elementwise(source, Step::gelu); }};

}  // namespace onebit
