#include "operators/operator.h"

namespace onebit {

void Operator::plan(Layout&, bool) const {}

void Operator::reserve(const Layout&, Scratch&) const {}

void Operator::reserve(const Layout&, Packed&) const {}

int64_t Operator::rows_needed(const Layout& layout, int input, int64_t) const { return layout.in[input].h; }

float Operator::threshold(const Layout&, const float*) const { return 0; }

void Operator::pack(const Layout&, const float*, int64_t, float, Packed&) const {}

void Operator::load(const Layout&, const uint8_t*, Packed&) const {}

void Operator::begin(const Layout&, const Map*, const Packed&, Range, Scratch&) const {}

Work Operator::work(const Layout&, const Packed&) const { return {nullptr, 0}; }

}  // namespace onebit
