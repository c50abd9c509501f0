// y = positive·max(x, 0) + negative·min(x, 0), by channel

#include "operators/elementwise.h"

namespace onebit {

ONEBIT_OPERATOR(maxout){"maxout", 1, [](Source& source) { return elementwise(source, Step::maxout, "channels", 2); }};

}  // namespace onebit
