// y = x if x >= 0, else slope·x, by channel

#include "operators/elementwise.h"

namespace onebit {

ONEBIT_OPERATOR(prelu){"prelu", 1, [](Source& source) { return elementwise(source, Step::prelu, "slope"); }};

}  // namespace onebit
