// y = prelu(x + shift_in, slope) + shift_out, by channel

#include "operators/elementwise.h"

namespace onebit {

ONEBIT_OPERATOR(rprelu){"rprelu", 1, [](Source& source) { return elementwise(source, Step::rprelu, "channels", 3); }};

}  // namespace onebit
