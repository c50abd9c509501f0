// y = x if x > 0, else alpha·(e^x - 1)

#include "operators/elementwise.h"

namespace onebit {

ONEBIT_OPERATOR(elu){"elu", 1, [](Source& source) { return elementwise(Step::elu, source.positive("alpha", 1)); }};

}  // namespace onebit
