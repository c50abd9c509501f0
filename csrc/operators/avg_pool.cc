// The sum of a window's pixels divided by their number: inside the image, or inside image and padding.

#include "operators/pooling.h"

namespace onebit {

ONEBIT_OPERATOR(avg_pool){"avg_pool", 1, [](Source& source) -> std::unique_ptr<Operator> {
                            return std::make_unique<Pooling>(source, source.steps().sum, true);
                          }};

}  // namespace onebit
