// An operator of the format: the shape of its output, and the rows of it, one after the other.
//
// Each has a file of its own here, <name>.cc, with ONEBIT_OPERATOR(<name>); the build makes the table of them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/buffer.h"
#include "base/window.h"
#include "convolutions/attention.h"
#include "convolutions/binary_attention.h"
#include "convolutions/binary_conv.h"
#include "convolutions/byte_conv.h"
#include "convolutions/code_conv.h"
#include "convolutions/float_conv.h"
#include "kernels/steps/steps.h"

namespace onebit {

// What an operator works with for inputs of some sizes.
struct Layout {
  std::vector<Shape> in;
  Shape out;
  BinaryPlan binary;      // of operators that read bits
  BytePlan bytes;         // of those that may read images of bytes
  int64_t rows = 0;       // of those that compute so many rows when `begin` announces them; 0 of all others
  int64_t strip = 1;      // rows that one call of `row` may compute
  int64_t ahead = 1;      // rows that are computed once the first of them is asked for
  bool together = false;  // whether one thread computes all rows, since one is no less work than all

  // Output rows that are best computed one after the other: a band, if they are more than one, or announced by `begin`.
  int64_t band() const { return bands() ? std::max(strip, rows ? rows : binary.band()) : std::max(strip, ahead); }
  bool bands() const { return rows > 0 || binary.product.size > 0; }
};

// One sample's input of an operator, in the form that it reads instead of floats.
struct Packed {
  BitImage bits;
  ByteImage bytes;
  CodeImage codes;
  bool in_bytes = false;  // whether the sample is there as bytes
};

// Memory of one thread for what operators have in hand.
struct Scratch {
  BinaryScratch binary;
  FloatScratch floats;
  CodeScratch codes;
  AttentionScratch attention;
  BinaryAttentionScratch binary_attention;
  Buffer<float> boxes;     // of proposals: all rows
  Buffer<double> moments;  // of group_norm: the mean and the deviation that each channel is normalised by
  Buffer<float> turned;    // of layer_norm: pixels, side by side in each channel
};

// Row y of an operator's output, and how it goes on. Of layout.strip above 1: `count` rows from y on.
struct Row {
  const Layout& layout;
  const Map* inputs;  // as floats: of operators that read packed ones they are not there
  const Packed& packed;
  int64_t y, count;
  // Where the row goes (OW, O): finish.out. An operator that applies steps is also given the first one; the function is
  // null if there is none.
  const Finish& finish;
  Step step;
  void (*apply)(const Finish&);
  Scratch& scratch;
  int32_t* accumulators;  // (OW, O): A·B of a binary operator, unless null
};

// What an elementwise operator computes, for the stage that it is fused behind.
struct Elementwise {
  Step step;
  std::vector<float> params = {};  // (rows, C)
  float constants[2] = {};         // as in Finish
};

// What an output costs: a sum of so many products, which kernels of this kind take; none for null.
struct Work {
  const char* kind;  // "binary", "bytes", "float"
  int64_t products;
};

class Operator {
 public:
  virtual ~Operator() = default;

  // The shape of the output, for inputs of any sizes that a call may have: behind `flatten` the number of channels
  // differs, too. Throws std::invalid_argument where they do not fit; the caller checks that the output is neither
  // empty nor too large.
  virtual Shape infer(const std::vector<Shape>& in) const = 0;

  // layout.in and layout.out are there. `given` says whether the first input is one of the network's.
  virtual void plan(Layout& layout, bool given) const;

  // Makes the memory that rows need.
  virtual void reserve(const Layout& layout, Scratch& scratch) const;
  virtual void reserve(const Layout& layout, Packed& packed) const;

  // How many rows of input number `input` must be there for the output rows up to y, which never grow fewer with y;
  // all, unless an operator knows better.
  virtual int64_t rows_needed(const Layout& layout, int input, int64_t y) const;

  // Whether `row` computes some rows of sequences (T, 1, C) at once.
  virtual bool strips() const { return false; }

  // If an output row sees no rows of its input but the last so many that it needs: their number, else 0.
  virtual int64_t rows_seen() const { return 0; }

  // Whether steps behind it are applied by `row` as well, or what it computes if it is such a step itself.
  virtual bool applies_step() const { return false; }
  virtual const Elementwise* elementwise() const { return nullptr; }

  // Whether the first input is read as bits or codes: packed row by row, or, if the threshold depends on it, as a
  // whole.
  virtual bool reads_packed() const { return false; }
  virtual bool packs_whole() const { return false; }
  virtual bool counts() const { return false; }                         // whether it is binary: A·B can be traced
  virtual float threshold(const Layout& layout, const float* x) const;  // of the whole map x, for `pack`
  virtual void pack(const Layout& layout, const float* x, int64_t y, float threshold, Packed& packed) const;

  // Takes an image of bytes (H, W, C), if layout.bytes says so.
  virtual void load(const Layout& layout, const uint8_t* bytes, Packed& packed) const;

  // Called before the rows of each band, if layout.bands(). `inputs` as a row's.
  virtual void begin(const Layout& layout, const Map* inputs, const Packed& packed, Range rows, Scratch& scratch) const;
  virtual void row(const Row& row) const = 0;

  virtual int64_t weight_bytes() const { return 0; }                    // as the kernels read them
  virtual Work work(const Layout& layout, const Packed& packed) const;  // for inputs of these sizes, in this form
};

class Source;

// How the file's reader makes one.
struct OperatorKind {
  const char* name;
  int inputs;
  // Throws FormatError for what the format does not allow.
  std::unique_ptr<Operator> (*make)(Source& source);
  unsigned tokens = 0;  // bit i: whether input i is one of tokens, which is read nowhere else
  int more = 0;         // inputs that it may have beside
};

constexpr unsigned kFirst = 1, kFourth = 8;  // as `tokens` of an OperatorKind

// ONEBIT_OPERATOR(name){"name", inputs, make};
#define ONEBIT_OPERATOR(name)                \
  extern const OperatorKind operator_##name; \
  const OperatorKind operator_##name

// The kind of that name; null if there is none.
const OperatorKind* find_operator(const std::string& name);

// Whether the build was told to do without that operator.
bool left_out(const std::string& name);

}  // namespace onebit
