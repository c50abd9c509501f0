// Tests of the kernels of values and weights in 8 bits.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "arrays.h"
#include "compare.h"
#include "kernels/codes/codes.h"
#include "kernels/iconv/iconv.h"

namespace onebit {
namespace {

// `extreme`: all codes and weights as far from 0 as they get, of as many channels as sums of 32 bits have room for.
void test_codes(const std::vector<CodeKernel>& kernels, bool extreme, float (*draw)()) {
  CodeMultiply m;
  m.words = extreme ? size_t{kMaxCodes} / 4 : between(1, 40);
  m.taps = extreme ? 1 : between(1, 9);
  m.pixels = between(1, extreme ? 3 : 40);
  m.blocks = between(1, extreme ? 2 : 9);
  m.outputs = kCodeLanes * (m.blocks - 1) + between(1, kCodeLanes);
  m.out_step = m.outputs + between(0, 5);
  m.pitch = 4 * m.words + between(0, 9);
  m.places_step = m.pixels + between(0, 3);
  const size_t lanes = m.blocks * kCodeLanes, each = m.taps + between(0, 2), places = between(1, 20);
  m.weight_step = each * m.words * kCodeLanes * 4;
  m.start_step = each * kCodeLanes;
  Input<uint8_t> codes((places - 1) * m.pitch + 4 * m.words);
  Input<int8_t> weights(m.blocks * m.weight_step);
  Input<int32_t> starts(m.blocks * m.start_step), seen((m.taps - 1) * m.places_step + m.pixels);
  Input<float> scales(places), weight_scales(lanes), bias(lanes);
  const bool low = coin(), negative = coin();
  m.codes = codes.fill([&] { return static_cast<uint8_t>(extreme ? (low ? 1 : 255) : between(1, 255)); }).data();
  m.weights =
      weights.fill([&] { return static_cast<int8_t>(extreme ? (negative ? -128 : 127) : between(0, 255) - 128); })
          .data();
  for (size_t i = 0; i < m.blocks * each * kCodeLanes; ++i) {
    const size_t block = i / m.start_step, tap = i / kCodeLanes % each, lane = i % kCodeLanes;
    starts[i] = 0;
    for (size_t k = 0; k < 4 * m.words; ++k) {
      const size_t word = (block * each + tap) * m.words + k / 4;
      starts[i] -= 128 * weights[(word * kCodeLanes + lane) * 4 + k % 4];
    }
  }
  m.starts = starts.data();
  m.places = seen.fill([&] { return static_cast<int32_t>(between(0, places - 1)); }).data();
  m.scales = scales.fill(draw).data();
  m.weight_scales = weight_scales.fill(draw).data();
  m.bias = bias.fill([&] { return draw() * draw(); }).data();
  const auto run = [&](const CodeKernel& kernel, float* out) {
    CodeMultiply own = m;
    own.out = out;
    kernel.run(own);
  };
  compare<float>(kernels, (m.pixels - 1) * m.out_step + m.outputs, nullptr, run,
                 text("%zu taps of %zu words, %zu pixels, %zu outputs", m.taps, m.words, m.pixels, m.outputs));
}

// Codes and, behind them, scales.
void test_quantize(const std::vector<QuantizeKernel>& kernels, float (*draw)()) {
  const size_t pixels = between(1, 5), channels = between(1, 90), pitch = channels + between(0, 4);
  const float tiny = coin() ? 1.0f : 0x1p-110f;  // below the least magnitude that counts
  Input<float> x(pixels * channels);
  x.fill([&] { return draw() * tiny; });
  const size_t bytes = (pixels * pitch + 3) / 4 * 4;
  const auto run = [&](const QuantizeKernel& kernel, uint8_t* out) {
    kernel.run(x.data(), pixels, channels, pitch, out, reinterpret_cast<float*>(out + bytes));
    for (size_t i = 0; i < pixels * pitch; ++i) {
      if (out[i] == 0) fail(std::string(kernel.name) + ": a code of -128");
    }
  };
  compare<uint8_t>(kernels, bytes + pixels * sizeof(float), nullptr, run, text("%zu channels", channels));
}

void test_code_kernels(size_t& ran) {
#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function},
  std::printf("iconv:");
  const auto codes = runnable<CodeKernel>(
      {
#include "kernels/iconv/kernels.inc"
      },
      ran);
  for (int round = 0; round < 300; ++round) test_codes(codes, round % 20 == 0, kDraws[round % 4]);

  std::printf("codes:");
  const auto quantize = runnable<QuantizeKernel>(
      {
#include "kernels/codes/kernels.inc"
      },
      ran, true);
  for (int round = 0; round < 300; ++round) test_quantize(quantize, kDraws[round % 4]);
#undef ONEBIT_KERNEL
}

}  // namespace
}  // namespace onebit
