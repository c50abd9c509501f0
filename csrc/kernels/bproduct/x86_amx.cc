// Tiles of AMX: 4 of sums (2 of windows × 2 of outputs), 2 of windows, 2 of weights. A product of tiles takes 16 cycles
// and each tile that is loaded serves two of them. Weights are expanded for two blocks and some runs at a time, into
// memory that stays in the first-level cache while all windows pass; sums wait in `counts` in the meantime.
#include <immintrin.h>

#include "kernels/bproduct/bproduct.h"

namespace onebit {
namespace {

constexpr size_t kTileBytes = 1024;

// The layout that the CPU reads.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// The compiler does not know what tile instructions read and write.
inline void memory_fence() { __asm__ volatile("" ::: "memory"); }

// Runs [begin, end) of a block: 16 rows of 64 bytes each, +1 or -1.
inline void expand_weights(const uint64_t* words, size_t rows, int8_t* to) {
  const __m512i plus = _mm512_set1_epi8(1), minus = _mm512_set1_epi8(-1);
  for (size_t r = 0; r < rows; ++r) {
    _mm512_store_si512(to + r * 64, _mm512_mask_blend_epi8(words[r], plus, minus));
  }
}

// Sums of W tiles of windows × B blocks: tile registers 0 and 1 are of the first block, 2 and 3 of the second.
template <int W, int B>
inline void multiply(const Product& p, size_t tile, size_t block, size_t begin, size_t end) {
  const size_t lanes = p.blocks * kProductLanes, stride = lanes * sizeof(int32_t);
  int32_t* first = p.counts + tile * p.tile * lanes + block * kProductLanes;
  int32_t* second = first + p.tile * lanes;
  // A stride of 0: every row starts at the same numbers.
  const int32_t* ones = p.ones + block * kProductLanes;
  const bool start = begin == 0;
  const size_t from = start ? 0 : stride;
  _tile_loadd(0, start ? ones : first, from);
  if (W > 1) _tile_loadd(1, start ? ones : second, from);
  if (B > 1) _tile_loadd(2, start ? ones + kProductLanes : first + kProductLanes, from);
  if (W > 1 && B > 1) _tile_loadd(3, start ? ones + kProductLanes : second + kProductLanes, from);
  const uint8_t* windows = p.bytes + p.starts[tile];
  const uint8_t* others = p.bytes + p.starts[tile + W - 1];
  const int8_t* weights = p.panel;
  const size_t other = (end - begin) * kTileBytes;
  for (size_t k = begin; k < end; ++k, weights += kTileBytes) {
    _tile_loadd(4, windows + p.offsets[k], p.step);
    _tile_loadd(6, weights, 64);
    _tile_dpbusd(0, 4, 6);
    if (W > 1) {
      _tile_loadd(5, others + p.offsets[k], p.step);
      _tile_dpbusd(1, 5, 6);
    }
    if (B > 1) {
      _tile_loadd(7, weights + other, 64);
      _tile_dpbusd(2, 4, 7);
    }
    if (W > 1 && B > 1) _tile_dpbusd(3, 5, 7);
  }
  _tile_stored(0, first, stride);
  if (W > 1) _tile_stored(1, second, stride);
  if (B > 1) _tile_stored(2, first + kProductLanes, stride);
  if (W > 1 && B > 1) _tile_stored(3, second + kProductLanes, stride);
}

template <int B>
inline void panel(const Product& p, size_t block, size_t begin, size_t end) {
  for (int b = 0; b < B; ++b) {
    const uint64_t* words = p.weights + ((block + b) * p.runs + begin) * kProductLanes;
    expand_weights(words, (end - begin) * kProductLanes, p.panel + b * (end - begin) * kTileBytes);
  }
  memory_fence();
  size_t tile = 0;
  for (; tile + 2 <= p.tiles; tile += 2) multiply<2, B>(p, tile, block, begin, end);
  if (tile < p.tiles) multiply<1, B>(p, tile, block, begin, end);
  memory_fence();
}

}  // namespace

void product_amx(const Product& p) {
  TileConfig config;
  for (int i = 0; i < 8; ++i) {
    config.row_bytes[i] = 64;
    config.rows[i] = i < 6 ? static_cast<uint8_t>(p.tile) : 16;
  }
  __asm__ volatile("ldtilecfg %0" : : "m"(config));  // the intrinsic of GCC 12 claims to read 8 bytes of it
  const size_t panels = (p.runs + kPanelRuns - 1) / kPanelRuns;
  for (size_t block = 0; block < p.blocks; block += 2) {
    for (size_t i = 0; i < panels; ++i) {
      const size_t begin = i * p.runs / panels, end = (i + 1) * p.runs / panels;
      block + 1 < p.blocks ? panel<2>(p, block, begin, end) : panel<1>(p, block, begin, end);
    }
  }
  _tile_release();  // so that switching threads need not save tiles
}

void product_amx_expand(const uint64_t* words, size_t n, uint8_t* bytes) {
  const __m512i one = _mm512_set1_epi8(1);
  for (size_t i = 0; i < n; ++i) {
    _mm512_store_si512(bytes + 64 * i, _mm512_maskz_mov_epi8(words[i], one));
  }
}

}  // namespace onebit
