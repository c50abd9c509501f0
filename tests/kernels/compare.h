// The kernels of a table beside the scalar one.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "arrays.h"
#include "base/cpu.h"

namespace onebit {
namespace {

// The rows of a table that this CPU can run, the scalar one last; counts them. `some`: only some CPUs have another one.
template <typename Kernel>
std::vector<Kernel> runnable(std::vector<Kernel> table, size_t& ran, bool some = false) {
  std::vector<Kernel> kernels;
  for (const Kernel& kernel : table) {
    if (kernel.isa > best_isa()) continue;
    kernels.push_back(kernel);
    std::printf(" %s", kernel.name);
  }
  if (kernels.empty() || kernels.back().isa != Isa::scalar) fail("a table without a scalar kernel");
  if (best_isa() != Isa::scalar && kernels.size() == 1 && !some) fail("a table with nothing but the scalar kernel");
  std::printf("\n");
  ran += kernels.size() - 1;
  return kernels;
}

// Runs all kernels on an output made by `make` and compares each with the scalar one, the last.
template <typename T, typename Kernel, typename Run>
void compare(const std::vector<Kernel>& kernels, size_t n, const T* start, Run run, const std::string& what) {
  Output<T> expected(n);
  if (start) expected.set(start);
  run(kernels.back(), expected.data());
  expected.add_to_digest();
  for (const Kernel& kernel : kernels) {
    Output<T> out(n);
    if (start) out.set(start);
    run(kernel, out.data());
    if (!(out == expected)) fail(std::string(kernel.name) + " differs from " + kernels.back().name + ": " + what);
  }
}

}  // namespace
}  // namespace onebit
