// Tests of what attention of bits and layer norms are made of.
#pragma once

#include <vector>

#include "arrays.h"
#include "compare.h"
#include "kernels/attend/attend.h"
#include "kernels/choose/choose.h"
#include "kernels/steps/steps.h"

namespace onebit {
namespace {

void test_choose(const std::vector<ChooseKernel>& kernels) {
  const size_t n = between(1, 200), entries = between(1, 200), most = between(0, 250);
  Input<int32_t> counts((n + 15) / 16 * 16);
  counts.fill([&] { return static_cast<int32_t>(between(0, most)); });
  const auto limit = static_cast<int32_t>(between(0, most + 1));
  const std::string sizes = text("%zu counts up to %zu, %zu entries", n, most, entries);
  compare<uint32_t>(
      kernels, (n + 31) / 32, nullptr,
      [&](const ChooseKernel& k, uint32_t* bits) { k.below(counts.data(), n, limit, bits); }, "below, " + sizes);
  Input<float> table((entries + kTableStep - 1) / kTableStep * kTableStep);  // whole numbers: sums are exact
  for (size_t j = 0; j < entries; ++j) table[j] = static_cast<float>(between(0, 1000));
  compare<float>(
      kernels, 2, nullptr,
      [&](const ChooseKernel& k, float* out) {
        const Weighed found = k.sum(counts.data(), n, table.data(), entries);
        out[0] = static_cast<float>(found.least);
        out[1] = found.sum;
      },
      "sum, " + sizes);
}

// Compared are the rows that are sure with twice the slack: of others kernels, which add up in different orders, may
// think differently.
void test_attend(const std::vector<AttendKernel>& kernels) {
  constexpr size_t kLanes = 16;
  Attend a;
  a.words = between(1, 2);
  a.count = between(1, 5);
  a.step = a.words + between(0, 3);
  a.keys_count = between(0, 9) ? between(1, 150) : between(1, kMaxKeys);
  a.outputs = between(1, 40);
  const size_t depth = 32 * a.words, blocks = (a.keys_count + kLanes - 1) / kLanes;
  const size_t of_values = (a.outputs + kLanes - 1) / kLanes, chosen = (a.keys_count + 31) / 32;
  const auto word = [] { return static_cast<uint32_t>(random_bits()); };
  Input<uint32_t> queries((a.count - 1) * a.step + a.words), keys(blocks * a.words * kLanes);
  Input<uint32_t> values(of_values * chosen * kLanes);
  Input<int32_t> ones(of_values * kLanes);
  a.queries = queries.fill(word).data();
  a.keys = keys.fill(word).data();
  values.fill(word);
  if (a.keys_count % 32) {  // bits of keys that are not there
    for (size_t i = 0; i < of_values * chosen * kLanes; ++i) {
      if (i / kLanes % chosen == chosen - 1) values[i] &= (uint32_t{1} << a.keys_count % 32) - 1;
    }
  }
  a.values = values.data();
  a.ones = ones.fill([&] { return static_cast<int32_t>(between(0, a.keys_count)); }).data();
  Input<float> table(kTableRoom);
  table.fill([] { return 0.0f; });  // WebAssembly's memory comes as it is
  float entry = 1024, ratio = 0.5f + static_cast<float>(between(0, 31)) / 64;
  for (size_t j = 0; j <= depth; ++j, entry *= ratio) table[j] = entry;
  a.table = table.data();
  a.level = static_cast<float>(between(1, 99)) / 256;
  a.factor = value();
  a.out_step = a.outputs + between(0, 9);
  const size_t size = a.count * a.out_step;
  std::vector<uint8_t> unsure(a.count), unsure_of(a.count);
  std::vector<float> first(size);
  a.slack = 0x1p-8f;
  a.out = first.data();
  a.unsure = unsure_of.data();
  kernels.back().run(a);
  a.slack = 0x1p-9f;
  const std::vector<float> zeros(size);
  compare<float>(
      kernels, size, zeros.data(),
      [&](const AttendKernel& k, float* out) {
        Attend own = a;
        own.out = out;
        own.unsure = unsure.data();
        k.run(own);
        for (size_t t = 0; t < a.count; ++t) {
          if (unsure_of[t]) {
            std::fill_n(out + t * a.out_step, a.outputs, 0.0f);
          } else if (unsure[t]) {
            fail(std::string(k.name) + ": unsure of what is sure");
          }
        }
      },
      text("%zu queries of %zu words, %zu keys, %zu outputs", a.count, a.words, a.keys_count, a.outputs));
}

void test_layer_norm(const std::vector<StepKernels>& kernels) {
  const size_t pixels = between(1, 40), channels = between(1, 70);
  Input<float> x(pixels * channels), scale(channels), bias(channels);
  // As they come; all nearly alike; of few bits, whose quotients often lie in the middle of two floats; and so small
  // that quotients are no usual floats.
  const size_t kind = between(0, 3);
  x.fill([&] {
    const float drawn = value();
    return kind == 1   ? 1 + drawn * 0x1p-20f
           : kind == 2 ? static_cast<float>(between(0, 3))
           : kind == 3 ? drawn * 0x1p-140f
                       : drawn;
  });
  LayerNormalize n;
  n.x = x.data();
  n.pixels = pixels;
  n.channels = channels;
  n.eps = kind == 2 ? 0x1p-60 : 1e-12;
  n.scale = scale.fill(value).data();
  n.bias = bias.fill([&] { return kind == 3 ? 0 : value(); }).data();
  compare<float>(
      kernels, pixels * channels, nullptr,
      [&](const StepKernels& k, float* out) {
        std::vector<float> turned(channels * kNormPixels);
        LayerNormalize own = n;
        own.turned = turned.data();
        own.out = out;
        k.layer_norm(own);
      },
      text("layer norm of %zu pixels, %zu channels, kind %zu", pixels, channels, kind));
}

}  // namespace
}  // namespace onebit
