#include "bindings/c/answer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace onebit {
namespace {

// The largest, or NaN if there is one.
double maximum(const float* values, int64_t count) {
  double most = values[0];
  for (int64_t i = 1; i < count && !std::isnan(most); ++i) {
    if (!(values[i] <= most)) most = values[i];
  }
  return most;
}

void softmax(const float* values, int64_t count, std::vector<float>& scores) {
  const double most = maximum(values, count);
  std::vector<double> exponents(count);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += exponents[i] = std::exp(values[i] - most);
  for (int64_t i = 0; i < count; ++i) scores[i] = static_cast<float>(exponents[i] / sum);
}

// 1 / (1 + exp(-x)) where exp(-x) may be too large
double logistic(double x) {
  const double small = std::log1p(std::exp(-std::abs(x)));
  return std::exp(x < 0 ? x - small : -small);
}

}  // namespace

std::vector<float> scores_of(const std::string& answer, const float* values, int64_t count) {
  std::vector<float> scores(values, values + count);
  if (answer == "one") {
    softmax(values, count, scores);
  } else if (answer == "several") {
    for (float& score : scores) score = static_cast<float>(logistic(score));
  }
  return scores;
}

std::vector<int32_t> best_of(const std::vector<float>& scores, int64_t top) {
  std::vector<int32_t> places(scores.size());
  std::iota(places.begin(), places.end(), 0);
  const auto better = [&](int32_t a, int32_t b) {
    const float x = scores[a], y = scores[b];
    if (std::isnan(x) || std::isnan(y)) return std::isnan(y) && (!std::isnan(x) || a < b);
    return x > y || (x == y && a < b);
  };
  const int64_t count = std::min<int64_t>(top, static_cast<int64_t>(places.size()));
  std::partial_sort(places.begin(), places.begin() + count, places.end(), better);
  places.resize(count);
  return places;
}

}  // namespace onebit
