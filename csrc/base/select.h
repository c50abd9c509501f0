// Which kernel of a table runs.
#pragma once

#include "base/cpu.h"

namespace onebit {

// The first row that `isa` allows. Tables begin with the best row and end with a scalar one, which all levels allow.
template <typename Kernel>
const Kernel& select_row(const Kernel* row, Isa isa) {
  while (row->isa > isa) ++row;
  return *row;
}

}  // namespace onebit
