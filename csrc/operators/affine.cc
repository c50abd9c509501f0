// y = scale·x + bias, by channel

#include "operators/elementwise.h"

namespace onebit {

ONEBIT_OPERATOR(affine){"affine", 1, [](Source& source) { return elementwise(source, Step::affine, "channels", 2); }};

}  // namespace onebit
