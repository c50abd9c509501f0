// y = x·hardsigmoid(x)

#include "operators/elementwise.h"

namespace onebit {

ONEBIT_OPERATOR(hardswish){"hardswish", 1, [](Source& source) { return elementwise(source, Step::hardswish); }};

}  // namespace onebit
