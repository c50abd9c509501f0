// The maximum of the pixels of a window that lie inside the image.

#include "operators/pooling.h"

namespace onebit {

ONEBIT_OPERATOR(max_pool){"max_pool", 1, [](Source& source) -> std::unique_ptr<Operator> {
                            return std::make_unique<Pooling>(source, source.steps().maximum, false);
                          }};

}  // namespace onebit
