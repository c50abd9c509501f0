// From a network's output to the best labels, as src/onebit/runtime/answers.py.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace onebit {

// A task's answer of a packed file: "one" (softmax), "several" (the logistic function of each), or "values" (as they
// are). Computed in double and rounded to float; (count) to (count).
std::vector<float> scores_of(const std::string& answer, const float* values, int64_t count);

// Places of scores, the highest first, of equal ones the first first, NaN last; at most `top` of them.
std::vector<int32_t> best_of(const std::vector<float>& scores, int64_t top);

}  // namespace onebit
