// y = min(max(x, low), high)

#include "operators/elementwise.h"

namespace onebit {

ONEBIT_OPERATOR(clip){"clip", 1, [](Source& source) {
                        const double low = source.number("low"), high = source.number("high");
                        if (low > high) source.refuse("needs low <= high");
                        return elementwise(Step::clip, low, high);
                      }};

}  // namespace onebit
