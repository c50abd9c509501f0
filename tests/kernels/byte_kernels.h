// Tests of the kernels of images of bytes.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "arrays.h"
#include "compare.h"
#include "kernels/qconv/qconv.h"

namespace onebit {
namespace {

void test_bytes(const std::vector<ByteKernel>& kernels, bool extreme, float (*draw)()) {
  ByteMultiply m;
  m.channels = between(1, 4);
  m.rows = between(1, 7);
  m.words = between(1, 3);
  m.step = between(0, 5);
  m.pixels = between(1, 30);
  m.blocks = between(1, 5);
  m.outputs = kByteLanes * (m.blocks - 1) + between(1, kByteLanes);
  m.out_step = m.outputs + between(0, 5);
  m.row_step = between(0, 40);
  m.channel_step = between(0, 300);
  const size_t lanes = m.blocks * kByteLanes;
  Input<uint8_t> x((m.channels - 1) * m.channel_step + (m.rows - 1) * m.row_step + (m.pixels - 1) * m.step +
                   4 * m.words);
  Input<int8_t> weights(lanes * m.channels * m.rows * m.words * 4);
  constexpr size_t kClasses = 3;
  Input<float> scales(m.channels * lanes), base(kClasses * lanes);
  Input<int64_t> classes(m.pixels);
  m.classes = classes.fill([&] { return static_cast<int64_t>(between(0, kClasses - 1)); }).data();
  const bool low = coin();
  m.bytes = x.fill([&] { return static_cast<uint8_t>(extreme ? 255 : between(0, 255)); }).data();
  m.weights =
      weights.fill([&] { return static_cast<int8_t>(extreme ? (low ? -128 : 127) : between(0, 255) - 128); }).data();
  m.scales = scales.fill(draw).data();
  m.base = base.fill([&] { return draw() * draw(); }).data();
  const auto run = [&](const ByteKernel& kernel, float* out) {
    ByteMultiply own = m;
    own.out = out;
    kernel.run(own);
  };
  compare<float>(kernels, (m.pixels - 1) * m.out_step + m.outputs, nullptr, run,
                 text("%zu channels, %zu rows of %zu words, %zu pixels, %zu outputs", m.channels, m.rows, m.words,
                      m.pixels, m.outputs));
}

void test_split(const std::vector<ByteKernel>& kernels) {
  ByteSplit s{};
  s.pixels = between(1, 70);
  s.channels = coin() ? 3 : between(1, 5);
  s.step = s.pixels;
  Input<uint8_t> x(s.pixels * s.channels);
  s.from = x.fill([] { return static_cast<uint8_t>(between(0, 255)); }).data();
  const auto run = [&](const ByteKernel& kernel, uint8_t* planes) {
    ByteSplit own = s;
    own.to = planes;
    kernel.split(own);
  };
  compare<uint8_t>(kernels, s.pixels * s.channels, nullptr, run,
                   text("%zu pixels of %zu channels", s.pixels, s.channels));
}

void test_byte_kernels(size_t& ran) {
#define ONEBIT_KERNEL(function, isa) {#function, Isa::isa, function, function##_split},
  std::printf("qconv:");
  const auto bytes = runnable<ByteKernel>(
      {
#include "kernels/qconv/kernels.inc"
      },
      ran);
  for (int round = 0; round < 300; ++round) test_bytes(bytes, round % 10 == 0, kDraws[round % 3]);
  for (int round = 0; round < 100; ++round) test_split(bytes);
#undef ONEBIT_KERNEL
}

}  // namespace
}  // namespace onebit
