// Every kernel that this CPU can run against the scalar one, bit for bit, on random sizes. Needs no Python, so that it
// can be cross-compiled and run in an emulator; the digest it prints of the scalar results has to be the same there.
#include <algorithm>
#include <cstdio>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "arrays.h"
#include "attention_kernels.h"
#include "byte_kernels.h"
#include "code_kernels.h"
#include "compare.h"
#include "kernels/bconv/bconv.h"
#include "kernels/bproduct/bproduct.h"
#include "kernels/dwconv/dwconv.h"
#include "kernels/fconv/fconv.h"
#include "kernels/pack/pack.h"
#include "kernels/steps/steps.h"

namespace onebit {
namespace {

void test_count(const std::vector<CountKernel>& kernels, size_t words, size_t max_pixels, bool all_differ,
                bool masked = false) {
  const size_t pixels = between(1, max_pixels), blocks = between(1, 5);
  Count c;
  c.words = words;
  c.pixels = pixels;
  c.blocks = blocks;
  c.step = between(0, 70);  // bytes: windows overlap and are unaligned
  std::vector<size_t> offsets(words);
  for (size_t& offset : offsets) offset = between(0, 4 * words);
  c.offsets = offsets.data();
  const size_t last = (pixels - 1) * c.step + *std::max_element(offsets.begin(), offsets.end());
  Input<char> bits(last + 4);
  Input<uint32_t> weights(blocks * words * kBinaryLanes);
  bits.fill([&] { return static_cast<char>(all_differ ? 0 : random_bits()); });
  weights.fill([&] { return all_differ ? ~uint32_t{0} : static_cast<uint32_t>(random_bits()); });
  Input<uint32_t> masks(words);
  masks.fill([] { return static_cast<uint32_t>(random_bits()); });
  c.masks = masked ? masks.data() : nullptr;
  if (masked) {
    for (size_t i = 0; i < blocks * words * kBinaryLanes; ++i) weights[i] &= masks[i / kBinaryLanes % words];
  }
  c.bits = bits.data();
  c.weights = weights.data();
  const auto run = [&](const CountKernel& kernel, int32_t* counts) {
    Count own = c;
    own.counts = counts;
    kernel.run(own);
    if (all_differ && counts[0] != static_cast<int32_t>(32 * words)) fail(std::string(kernel.name) + ": a wrong count");
  };
  compare<int32_t>(
      kernels, pixels * blocks * kBinaryLanes, nullptr, run,
      text("%zu words%s, %zu pixels, %zu blocks, step %zu", words, masked ? ", masked" : "", pixels, blocks, c.step));
}

void test_counts(const std::vector<CountKernel>& kernels) {
  for (size_t words = 1; words <= 200; ++words) {
    test_count(kernels, words, 40, false);
    test_count(kernels, words, 9, true);
    test_count(kernels, words, 20, false, true);
  }
  // Past the words after which counters of bytes must be widened, in whole groups and not, and past 2^15 and 2^16.
  for (size_t words : {495, 496, 497, 511, 512, 513, 992, 1025, 1057, 2048, 2079, 4100}) {
    test_count(kernels, words, 5, false);
    test_count(kernels, words, 5, true);
  }
}

void test_product(const std::vector<ProductKernel>& kernels, size_t runs, bool all_differ) {
  Product p;
  p.runs = runs;
  p.tile = between(1, 16);
  p.tiles = between(1, 5);
  p.blocks = between(1, 5);
  p.step = between(0, 200);
  std::vector<size_t> starts(p.tiles), offsets(runs);
  for (size_t& start : starts) start = between(0, 1000);
  for (size_t& offset : offsets) offset = between(0, 3000);
  p.starts = starts.data();
  p.offsets = offsets.data();
  const size_t reach = *std::max_element(starts.begin(), starts.end()) + (p.tile - 1) * p.step +
                       *std::max_element(offsets.begin(), offsets.end());
  const size_t outputs = p.blocks * kProductLanes;
  Input<uint8_t> bytes(reach + kProductRun);
  Input<uint64_t> weights(p.blocks * runs * kProductLanes);
  Input<int32_t> ones(outputs);
  bytes.fill([&] { return static_cast<uint8_t>(all_differ ? 1 : coin()); });
  weights.fill([&] {
    const uint64_t high = random_bits();
    return all_differ ? 0 : high << 32 | random_bits();
  });
  p.bytes = bytes.data();
  p.weights = weights.data();
  p.ones = ones.fill([&] { return static_cast<int32_t>(all_differ ? 0 : between(0, 64 * runs)); }).data();
  Output<int8_t> panel(kPanelBytes);
  p.panel = panel.data();
  const auto run = [&](const ProductKernel& kernel, int32_t* counts) {
    Product own = p;
    own.counts = counts;
    kernel.run(own);
#if defined(ONEBIT_BOCHS_3_0)
    // This emulator takes the weight -1 for 255: a count is larger by 256·Σ a·w, half of what weights of 0 add to it.
    if (kernel.isa == Isa::scalar) {
      const Input<uint64_t> none(p.blocks * runs * kProductLanes);
      std::vector<int32_t> most(p.tiles * p.tile * outputs);
      own.weights = none.data();
      own.counts = most.data();
      kernel.run(own);
      for (size_t i = 0; i < most.size(); ++i) counts[i] += 128 * (most[i] - counts[i]);
    }
#endif
    if (all_differ && counts[0] != static_cast<int32_t>(64 * runs)) fail(std::string(kernel.name) + ": a wrong count");
  };
  compare<int32_t>(kernels, p.tiles * p.tile * outputs, nullptr, run,
                   text("%zu runs, %zu tiles of %zu, %zu blocks, step %zu", runs, p.tiles, p.tile, p.blocks, p.step));
}

void test_products(const std::vector<ProductKernel>& kernels) {
  for (size_t runs = 1; runs <= 40; ++runs) test_product(kernels, runs, runs % 8 == 0);
  for (size_t runs : {63, 64, 65, 72}) test_product(kernels, runs, false);
  test_product(kernels, 1030, true);
  for (size_t n = 1; n <= 40; ++n) {
    Input<uint64_t> words(n);
    words.fill([] {
      const uint64_t high = random_bits();
      return high << 32 | random_bits();
    });
    const auto run = [&](const ProductKernel& kernel, uint8_t* bytes) { kernel.expand(words.data(), n, bytes); };
    compare<uint8_t>(kernels, 64 * n, nullptr, run, text("expansion of %zu words", n));
  }
}

void test_multiply(const std::vector<MultiplyKernel>& kernels, float (*draw)()) {
  Multiply m;
  m.count = between(1, 4);
  m.run = between(1, 40);
  m.step = between(0, 45);
  m.pixels = between(1, 30);
  m.blocks = between(1, 5);
  m.outputs = 16 * (m.blocks - 1) + between(1, 16);
  m.out_step = m.outputs + between(0, 5);
  const size_t depth = m.count * m.run, reach = (m.pixels - 1) * m.step + m.run;
  Input<float> x(reach + m.count - 1), weights(m.blocks * depth * 16), bias(m.blocks * 16);
  std::vector<const float*> rows;
  for (size_t r = 0; r < m.count; ++r) rows.push_back(x.fill(draw).data() + r);
  m.rows = rows.data();
  m.weights = weights.fill(draw).data();
  m.bias = bias.fill([&] { return draw() * draw(); }).data();
  const auto run = [&](const MultiplyKernel& kernel, float* out) {
    Multiply own = m;
    own.out = out;
    kernel.run(own);
  };
  compare<float>(
      kernels, (m.pixels - 1) * m.out_step + m.outputs, nullptr, run,
      text("%zu × %zu products, step %zu, %zu pixels, %zu outputs", m.count, m.run, m.step, m.pixels, m.outputs));
}

// One pixel at an end, a run of them, one at the other end, as a row of an image has them; some taps in the padding.
void test_depthwise(const std::vector<DepthwiseKernel>& kernels, float (*draw)()) {
  constexpr size_t kRuns = 3;
  Depthwise d;
  d.count = between(1, 26);
  d.channels = between(1, 100);
  d.run_count = kRuns;
  d.out_step = d.channels + between(0, 5);
  const size_t step = between(0, 120), middle = between(1, 30), reach = (middle - 1) * step + d.channels;
  const size_t starts[] = {0, 1, 1 + middle}, pixels[] = {1, middle, 1};
  Input<float> x(reach + d.count - 1), zeros(d.channels), weights(d.count * d.channels), bias(d.channels);
  x.fill(draw);
  zeros.fill([] { return 0.0f; });
  std::vector<DepthwiseTap> taps;
  for (size_t k = 0; k < kRuns * d.count; ++k) {
    taps.push_back(between(0, 5) ? DepthwiseTap{x.data() + k % d.count, step} : DepthwiseTap{zeros.data(), 0});
  }
  d.weights = weights.fill(draw).data();
  d.bias = bias.fill([&] { return draw() * draw(); }).data();
  const auto run = [&](const DepthwiseKernel& kernel, float* out) {
    DepthwiseRun runs[kRuns];
    for (size_t r = 0; r < kRuns; ++r) runs[r] = {taps.data() + r * d.count, pixels[r], out + starts[r] * d.out_step};
    Depthwise own = d;
    own.runs = runs;
    kernel.run(own);
  };
  compare<float>(kernels, (middle + 1) * d.out_step + d.channels, nullptr, run,
                 text("%zu taps, %zu channels, step %zu, %zu pixels", d.count, d.channels, step, middle));
}

// Values at which the steps bend, and others.
float bend() {
  constexpr float kValues[] = {0.0f, -0.0f, 1.0f, -1.0f, 3.0f, -3.0f, 100.0f, -100.0f, 1e-40f, -1e-40f};
  return coin() ? value() : kValues[between(0, std::size(kValues) - 1)];
}

void test_step(const std::vector<StepKernels>& kernels, size_t step) {
  Finish f{};
  f.pixels = between(1, 40);
  f.channels = between(1, 70);
  f.stride = f.channels + between(0, 5);
  f.x_stride = f.channels + between(0, 5);
  f.params_stride = f.channels + between(0, 5);
  const size_t n = (f.pixels - 1) * f.stride + f.channels;
  Input<float> x((f.pixels - 1) * f.x_stride + f.channels), other(n), params(2 * f.params_stride + f.channels);
  f.x = x.fill(bend).data();
  f.params = params.fill(value).data();
  for (float& constant : f.constants) constant = value();
  const float* start = nullptr;
  const char* kind = "";
  enum { apart, over_x, over_other } where = static_cast<decltype(where)>(between(0, 2));
  const bool with_other = where == over_other || coin();
  other.fill(bend);
  if (where == over_x) f.x_stride = f.stride;
  Input<float> in_place(n);
  if (where == over_x) start = in_place.fill(bend).data(), kind = ", over x";
  if (where == over_other) start = other.data(), kind = ", over other";
  const std::string sizes = text("step %zu, %zu pixels, %zu channels, %s other%s", step, f.pixels, f.channels,
                                 with_other ? "with" : "without", kind);
  const auto bound = [&](float* out) {
    Finish own = f;
    own.out = out;
    if (where == over_x) own.x = out;
    own.other = where == over_other ? out : with_other ? other.data() : nullptr;
    return own;
  };
  compare<float>(
      kernels, n, start, [&](const StepKernels& kernel, float* out) { kernel.finish[step](bound(out)); }, sizes);
  if (where == over_x) return;  // dequantize reads no x

  Dequantize d{};
  d.count_stride = f.channels + between(0, 20);
  d.class_stride = f.channels + between(0, 5);
  const size_t classes = between(1, 4), table = (classes - 1) * d.class_stride + f.channels;
  Input<int32_t> counts((f.pixels - 1) * d.count_stride + f.channels), base(table);
  Input<int64_t> class_of(f.pixels);
  Input<float> shifted(table), scale(f.channels), bias(f.channels), offset(f.channels), window(f.pixels);
  d.counts = counts.fill([] { return static_cast<int32_t>(between(0, 1 << 23)); }).data();
  d.base = base.fill([] { return static_cast<int32_t>(between(0, 1 << 24)); }).data();
  size_t of_pixel = between(0, classes - 1);  // equal ones side by side
  d.classes = class_of
                  .fill([&] {
                    of_pixel = std::min(classes - 1, of_pixel + (between(0, 6) == 0));
                    return static_cast<int64_t>(of_pixel);
                  })
                  .data();
  d.shifted = shifted.fill(value).data();
  d.scale = scale.fill(value).data();
  d.bias = bias.fill(value).data();
  d.offset = coin() ? offset.fill(value).data() : nullptr;
  d.window = window.fill(value).data();
  const auto run = [&](const StepKernels& kernel, float* out) {
    Dequantize own = d;
    own.finish = bound(out);
    own.finish.x = nullptr;
    kernel.dequantize[step](own);
  };
  compare<float>(kernels, n, start, run, "dequantize, " + sizes);
}

void test_pools(const std::vector<StepKernels>& kernels) {
  const size_t count = between(1, 9), windows = between(1, 5), step = between(0, 120), n = between(1, 100);
  Input<float> x((windows - 1) * step + n + count - 1);
  x.fill(bend);
  std::vector<const float*> taps;
  for (size_t k = 0; k < count; ++k) taps.push_back(x.data() + k);
  const std::string sizes = text("%zu windows of %zu taps of %zu values", windows, count, n);
  const Windows w{taps.data(), count, step, windows, n};
  compare<float>(
      kernels, windows * n, nullptr, [&](const StepKernels& k, float* out) { k.maximum(w, out); }, "maximum, " + sizes);
  compare<float>(
      kernels, windows * n, nullptr, [&](const StepKernels& k, float* out) { k.sum(w, out); }, "sum, " + sizes);

  const size_t pixels = between(1, 20), channels = between(1, 40);
  Input<float> image(pixels * channels);
  image.fill(value);
  const std::vector<double> zeros(channels);
  compare<double>(
      kernels, channels, zeros.data(),
      [&](const StepKernels& k, double* sums) { k.channel_sums(image.data(), sums, pixels, channels); },
      text("channel sums, %zu pixels, %zu channels", pixels, channels));
}

void test_norms(const std::vector<StepKernels>& kernels) {
  const size_t n = between(1, 70);
  Input<float> x(n), scale(n), bias(n);
  Input<double> mean(n), deviation(n);
  x.fill(bend);
  compare<float>(
      kernels, n, nullptr,
      [&](const StepKernels& k, float* out) {
        std::vector<double> e(n);
        k.softmax(x.data(), n, e.data(), out);
      },
      text("softmax of %zu values", n));
  Normalize own;
  own.x = x.data();
  own.mean = mean.fill([] { return static_cast<double>(value()); }).data();
  own.deviation = deviation.fill([] { return 0.1 + static_cast<double>(between(0, 999)) / 128; }).data();
  own.scale = scale.fill(value).data();
  own.bias = bias.fill(value).data();
  own.channels = n;
  compare<float>(
      kernels, n, nullptr,
      [&](const StepKernels& k, float* out) {
        Normalize to = own;
        to.out = out;
        k.normalize(to);
      },
      text("normalize of %zu channels", n));
}

void test_pack(const std::vector<PackKernel>& kernels, size_t n, size_t step) {
  Input<float> x(n), thresholds(step ? n : 1);
  thresholds.fill(bend);
  for (size_t i = 0; i < n; ++i) x[i] = between(0, 3) ? bend() : thresholds[i * step];  // equal: bit 0
  const auto run = [&](const PackKernel& kernel, uint64_t* words) {
    kernel.run(x.data(), thresholds.data(), step, n, words);
  };
  compare<uint64_t>(kernels, (n + 63) / 64, nullptr, run, text("%zu floats, step %zu", n, step));
}

void test_ones(const std::vector<PackKernel>& kernels, size_t channels) {
  const size_t pixels = between(1, 40);
  Input<uint64_t> words((pixels * channels + 63) / 64);
  words.fill([] {
    const uint64_t high = random_bits();
    return coin() ? ~uint64_t{0} : high << 32 | random_bits();
  });
  const auto run = [&](const PackKernel& kernel, float* counts) {
    kernel.ones(words.data(), pixels, channels, counts);
  };
  compare<float>(kernels, pixels, nullptr, run, text("ones, %zu pixels, %zu channels", pixels, channels));
}

// Every level up to the best one can be chosen by its name; the names of another architecture are unknown.
void test_names() {
  for (int level = 0; level <= static_cast<int>(best_isa()); ++level) {
    const Isa isa = static_cast<Isa>(level);
    if (choose_isa(isa_name(isa), best_isa()) != isa) fail(std::string("cannot choose ") + isa_name(isa));
  }
#if defined(ONEBIT_ARM64) || defined(ONEBIT_WASM)
  const char* const foreign = "avx2";
#else
  const char* const foreign = "neon";
#endif
  try {
    choose_isa(foreign, best_isa());
  } catch (const std::invalid_argument& error) {
    if (std::string(error.what()).find("unknown instruction set") == 0) return;
  }
  fail(std::string("not refused as unknown: ") + foreign);
}

int run_all() {
  std::printf("this CPU: %s\n", isa_name(best_isa()));
  test_names();
  size_t ran = 0;

  std::printf("bconv:");
#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function},
  test_counts(runnable<CountKernel>(
      {
#include "kernels/bconv/kernels.inc"
      },
      ran));

#undef ONEBIT_KERNEL

  test_byte_kernels(ran);

#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function},
  std::printf("fconv:");
  const auto multiply = runnable<MultiplyKernel>(
      {
#include "kernels/fconv/kernels.inc"
      },
      ran);
  for (int round = 0; round < 400; ++round) test_multiply(multiply, kDraws[round % 4]);

  std::printf("dwconv:");
  const auto depthwise = runnable<DepthwiseKernel>(
      {
#include "kernels/dwconv/kernels.inc"
      },
      ran);
  for (int round = 0; round < 400; ++round) test_depthwise(depthwise, kDraws[round % 4]);

#undef ONEBIT_KERNEL

  test_code_kernels(ran);

#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function, function##_expand},
  std::printf("bproduct:");
  test_products(runnable<ProductKernel>(
      {
#include "kernels/bproduct/kernels.inc"
      },
      ran, true));
#undef ONEBIT_KERNEL

#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function, function##_ones},
  std::printf("pack:");
  const auto pack = runnable<PackKernel>(
      {
#include "kernels/pack/kernels.inc"
      },
      ran);
  for (size_t n = 1; n <= 300; ++n) {
    for (size_t step = 0; step < 2; ++step) test_pack(pack, n, step);
    test_ones(pack, n);
  }
#undef ONEBIT_KERNEL

#define ONEBIT_KERNEL(table, isa) table,
  std::printf("steps:");
  const auto steps = runnable<StepKernels>(
      {
#include "kernels/steps/kernels.inc"
      },
      ran);
#undef ONEBIT_KERNEL
  for (int round = 0; round < 60; ++round) {
    for (size_t step = 0; step < kSteps; ++step) test_step(steps, step);
    test_pools(steps);
    test_norms(steps);
  }

  for (int round = 0; round < 40; ++round) test_layer_norm(steps);

#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function##_below, function##_sum},
  std::printf("choose:");
  const auto choose = runnable<ChooseKernel>(
      {
#include "kernels/choose/kernels.inc"
      },
      ran, true);
#undef ONEBIT_KERNEL
  for (int round = 0; round < 400; ++round) test_choose(choose);

#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function},
  std::printf("attend:");
  const auto attend = runnable<AttendKernel>(
      {
#include "kernels/attend/kernels.inc"
      },
      ran, true);
#undef ONEBIT_KERNEL
  for (int round = 0; round < 400; ++round) test_attend(attend);

  if (ran == 0) fail("this CPU runs no kernel but the scalar ones: nothing was compared");
  std::printf("%zu kernels equal the scalar ones; digest %016llx\n", ran, static_cast<unsigned long long>(digest));
  return 0;
}

}  // namespace
}  // namespace onebit

int main() { return onebit::run_all(); }
