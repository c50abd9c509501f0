#include "operators/code_convolution.h"

#include <string>
#include <utility>

namespace onebit {
namespace {

class CodeConvolution : public Operator {
 public:
  // `vector`: of vectors to vectors.
  CodeConvolution(CodeConv conv, bool vector) : conv_(std::move(conv)), vector_(vector) {}

  Shape infer(const std::vector<Shape>& in) const override {
    Shape out = conv_.out_shape(in[0]);
    out.vector = vector_;
    return out;
  }

  void reserve(const Layout&, Scratch& scratch) const override { conv_.reserve(scratch.codes); }
  void reserve(const Layout& layout, Packed& packed) const override { packed.codes = conv_.image(layout.in[0]); }

  int64_t rows_needed(const Layout& layout, int, int64_t y) const override {
    return conv_.window().rows.seen(y, layout.in[0].h);
  }
  bool strips() const override { return conv_.pointwise(); }
  bool applies_step() const override { return true; }

  bool reads_packed() const override { return true; }
  void pack(const Layout& layout, const float* x, int64_t y, float, Packed& packed) const override {
    conv_.pack(layout.in[0], x, y, packed.codes);
  }

  void row(const Row& r) const override {
    conv_.rows(r.layout.in[0], r.packed.codes, r.y, r.count, r.apply, r.finish, r.scratch.codes);
  }

  int64_t weight_bytes() const override { return conv_.weight_bytes(); }
  Work work(const Layout&, const Packed&) const override { return {"bytes", conv_.products()}; }

 private:
  CodeConv conv_;
  bool vector_;
};

}  // namespace

bool in_codes(Source& source, const Weight& weight, int64_t groups) {
  if (source.word("activations", {"float", "int8"}, "float") == 0) return false;
  if (weight.codes.empty()) source.refuse("activations in int8 need a weight in I8; pack the model again");
  if (groups != 1) source.refuse("activations in int8 need groups 1, got " + std::to_string(groups));
  if (!CodeConv::takes(weight.shape[1])) {
    source.refuse("activations in int8 are for at most " + std::to_string(kMaxCodes) + " channels, got " +
                  std::to_string(weight.shape[1]));
  }
  return true;
}

std::unique_ptr<Operator> code_convolution(Source& source, Window window, Weight weight, std::vector<float> bias,
                                           bool vector) {
  CodeWeights codes;
  codes.window = window;
  codes.out = weight.shape[0];
  codes.in = weight.shape[1];
  codes.codes = std::move(weight.codes);
  codes.scale = std::move(weight.scale);
  codes.bias = std::move(bias);
  return std::make_unique<CodeConvolution>(CodeConv(codes, source.target().isa), vector);
}

}  // namespace onebit
