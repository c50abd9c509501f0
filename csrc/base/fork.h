// Forks: a child has its parent's memory but of its threads only the one that forked. What other threads were at work
// on is left as it was at that moment, their locks held, and no thread can be joined.
#pragma once

#include <cstdint>

namespace onebit {

// How many forks lie between this process and the first one that asked. What belongs to threads or is changed under a
// lock is kept beside this number, and where it differs is neither used nor freed.
uint64_t forks();

}  // namespace onebit
