// conv and linear whose activations have 8 bits: codes in, packed as the rows before them are computed, floats out.
#pragma once

#include <memory>
#include <vector>

#include "operators/operator.h"
#include "operators/source.h"

namespace onebit {

// Whether the node says that activations have 8 bits, which takes a weight in 8 bits, no groups, and few enough
// channels.
bool in_codes(Source& source, const Weight& weight, int64_t groups);

// That operator; `vector`: of vectors to vectors.
std::unique_ptr<Operator> code_convolution(Source& source, Window window, Weight weight, std::vector<float> bias,
                                           bool vector);

}  // namespace onebit
