// Copyright 2026 The sqap_vla Authors
// SPDX-License-Identifier: Apache-2.0
//
// Integer linear layers on x86: int8 activations times 4-bit or 8-bit weights, exact int32 sums, scaled in the epilogue.
// Built at first use for the processor at hand (../cpu_simd.py); plain C interface, no torch headers.
//
//   weights     w + 8 (4 bits) or w + 128 (8 bits) is an unsigned byte u, as vpdpbusd and vpmaddubsw want it; what that
//               adds to a sum, offset * sum(x), is subtracted at the end
//   panel       LANES outputs side by side, four inputs of each in a 32-bit word: word[k / 4][lane]. Made of the packed
//               weights when needed, KC inputs at a time, so that it stays in the cache; nothing is kept unpacked.
//   order of k  a packed byte holds inputs 2 j and 2 j + 1. Taking the low nibbles of four bytes, then the high ones,
//               gives words of inputs 0 2 4 6 and 1 3 5 7, so the activations are put in that order, eight by eight
//   AVX2        has no 32-bit accumulating dot product: pairs are summed in 16 bits by vpmaddubsw, for as many steps as
//               cannot overflow (`chunk`), then widened. An 8-bit weight is taken as 16 * high + low nibble there.

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

#if defined(SQAP_PORTABLE_DOT)  // the layout of AVX-512 VNNI where there is none, for tests
#define SQAP_DOT32 1
constexpr const char* kIsa = "portable";
constexpr int kVectorLanes = 16, kRows = 6, kVectors = 4;
struct Vector {
  int32_t lane[16];
};
inline Vector load(const int32_t* p) {
  Vector v;
  std::memcpy(v.lane, p, sizeof v.lane);
  return v;
}
inline void store(int32_t* p, Vector v) { std::memcpy(p, v.lane, sizeof v.lane); }
inline Vector spread(int32_t word) {
  Vector v;
  std::fill(v.lane, v.lane + 16, word);
  return v;
}
inline Vector dot(Vector sum, Vector u, Vector x) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(u.lane);
  const auto* signed_bytes = reinterpret_cast<const int8_t*>(x.lane);
  for (int i = 0; i < 64; ++i) sum.lane[i / 4] += bytes[i] * signed_bytes[i];
  return sum;
}
#elif defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define SQAP_DOT32 1
constexpr const char* kIsa = "AVX-512 VNNI";
constexpr int kVectorLanes = 16, kRows = 6, kVectors = 4;
using Vector = __m512i;
inline Vector load(const int32_t* p) { return _mm512_loadu_si512(p); }
inline void store(int32_t* p, Vector v) { _mm512_storeu_si512(p, v); }
inline Vector spread(int32_t word) { return _mm512_set1_epi32(word); }
inline Vector dot(Vector sum, Vector u, Vector x) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(u), "v"(x));  // with the intrinsic, GCC 12 spills a third of the sums
  return sum;
}
#elif defined(__AVXVNNI__) && defined(__AVX2__)
#define SQAP_DOT32 1
constexpr const char* kIsa = "AVX-VNNI";
constexpr int kVectorLanes = 8, kRows = 4, kVectors = 2;
using Vector = __m256i;
inline Vector load(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline void store(int32_t* p, Vector v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
inline Vector spread(int32_t word) { return _mm256_set1_epi32(word); }
inline Vector dot(Vector sum, Vector u, Vector x) { return _mm256_dpbusd_avx_epi32(sum, u, x); }
#elif defined(__AVX2__)
#define SQAP_DOT32 0
constexpr const char* kIsa = "AVX2";
constexpr int kVectorLanes = 8, kRows = 4, kVectors = 2;
using Vector = __m256i;
inline Vector zero() { return _mm256_setzero_si256(); }
inline Vector load(const int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
inline void store(int32_t* p, Vector v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
inline Vector spread(int32_t word) { return _mm256_set1_epi32(word); }
inline Vector add(Vector a, Vector b) { return _mm256_add_epi32(a, b); }
#else
#error "needs AVX2"
#endif

constexpr int kLanes = kVectorLanes * kVectors;  // outputs of one panel
constexpr int kBlock = 64;                       // outputs of one task, a multiple of kLanes
constexpr int kPanels = kBlock / kLanes;
constexpr int kDepth = 1024;                     // inputs of one panel: 16 or 64 KB
constexpr int kSteps = kDepth / 4;
constexpr int kUnroll = 64;                      // inputs of one load of packed weights; the activations are padded to it
[[maybe_unused]] constexpr int kMostPairs = 30;                   // u of 15, twice: times |x|, what one vpmaddubsw adds at most to 16 bits

static_assert(kBlock % kLanes == 0 && kDepth % kUnroll == 0, "blocks must divide");

inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// Activations as the micro-kernel reads them.
struct Input {
  std::vector<int8_t> values;  // [rows padded to kRows, depth]
  std::vector<int32_t> sums;   // of each row
  int64_t depth = 0;           // inputs, padded to kUnroll
  int chunk = 0;               // steps of four inputs after which 16-bit sums are widened
};

void prepare(Input& input, const int8_t* x, int64_t ldx, int64_t rows, int64_t inputs, bool nibbles) {
  input.depth = round_up(inputs, kUnroll);
  input.values.assign(round_up(rows, kRows) * input.depth, 0);
  input.sums.assign(round_up(rows, kRows), 0);
  int largest = 1;
#pragma omp parallel for reduction(max : largest) schedule(static) if (rows > 16)
  for (int64_t row = 0; row < rows; ++row) {
    const int8_t* source = x + row * ldx;
    int8_t* target = input.values.data() + row * input.depth;
    int32_t sum = 0;
    int reach = 0;
    for (int64_t k = 0; k < inputs; ++k) {
      sum += source[k];
      reach = std::max(reach, std::abs(static_cast<int>(source[k])));
    }
    int64_t k = 0;
    if (nibbles) {
      const __m256i order = _mm256_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15,  //
                                             0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
      for (; k + 32 <= inputs; k += 32) {
        const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source + k));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + k), _mm256_shuffle_epi8(v, order));
      }
      for (; k < inputs; ++k) target[k / 8 * 8 + k % 2 * 4 + k % 8 / 2] = source[k];
    } else {
      std::memcpy(target, source, inputs);
    }
    input.sums[row] = sum;
    largest = std::max(largest, reach);
  }
  input.chunk = std::min(128, 32767 / (kMostPairs * largest));
}

// Eight rows of eight words -> eight columns, each stored kLanes words apart.
inline void transpose_words(const __m256i* rows, int32_t* target, int64_t stride) {
  const __m256i a0 = _mm256_unpacklo_epi32(rows[0], rows[1]), a1 = _mm256_unpackhi_epi32(rows[0], rows[1]);
  const __m256i a2 = _mm256_unpacklo_epi32(rows[2], rows[3]), a3 = _mm256_unpackhi_epi32(rows[2], rows[3]);
  const __m256i a4 = _mm256_unpacklo_epi32(rows[4], rows[5]), a5 = _mm256_unpackhi_epi32(rows[4], rows[5]);
  const __m256i a6 = _mm256_unpacklo_epi32(rows[6], rows[7]), a7 = _mm256_unpackhi_epi32(rows[6], rows[7]);
  const __m256i b0 = _mm256_unpacklo_epi64(a0, a2), b1 = _mm256_unpackhi_epi64(a0, a2);
  const __m256i b2 = _mm256_unpacklo_epi64(a1, a3), b3 = _mm256_unpackhi_epi64(a1, a3);
  const __m256i b4 = _mm256_unpacklo_epi64(a4, a6), b5 = _mm256_unpackhi_epi64(a4, a6);
  const __m256i b6 = _mm256_unpacklo_epi64(a5, a7), b7 = _mm256_unpackhi_epi64(a5, a7);
  const __m256i columns[8] = {
      _mm256_permute2x128_si256(b0, b4, 0x20), _mm256_permute2x128_si256(b1, b5, 0x20),
      _mm256_permute2x128_si256(b2, b6, 0x20), _mm256_permute2x128_si256(b3, b7, 0x20),
      _mm256_permute2x128_si256(b0, b4, 0x31), _mm256_permute2x128_si256(b1, b5, 0x31),
      _mm256_permute2x128_si256(b2, b6, 0x31), _mm256_permute2x128_si256(b3, b7, 0x31),
  };
  for (int i = 0; i < 8; ++i)
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(target + i * stride), columns[i]);
}

enum Plane { kNibbles, kBytes, kHigh, kLow };  // what of a weight goes into a panel

// Panels of outputs [first, first + kBlock) and inputs [start, start + depth): word[panel][k / 4][lane].
void unpack(int32_t* panels, const uint8_t* weight, int64_t ldw, int64_t outputs, int64_t row_bytes, int64_t first,
            int64_t start, int64_t depth, Plane plane) {
  const int per_byte = plane == kNibbles ? 2 : 1;
  const __m256i low = _mm256_set1_epi8(15), eight = _mm256_set1_epi8(8);
  const __m256i middle = _mm256_set1_epi8(static_cast<char>(0x80));
  alignas(32) uint8_t padded[32];
  for (int group = 0; group < kBlock / 8; ++group) {
    int32_t* panel = panels + group * 8 / kLanes * (kSteps * kLanes) + group * 8 % kLanes;
    for (int64_t k = 0; k < depth; k += 32 * per_byte) {
      const int64_t byte = (start + k) / per_byte;
      __m256i packed[8], words[8];
      for (int i = 0; i < 8; ++i) {
        const int64_t row = first + group * 8 + i;
        if (row >= outputs) {
          packed[i] = _mm256_setzero_si256();
        } else if (byte + 32 <= row_bytes) {
          packed[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weight + row * ldw + byte));
        } else {  // the activations that meet these bytes are zeros
          std::memset(padded, 0, sizeof padded);
          if (byte < row_bytes) std::memcpy(padded, weight + row * ldw + byte, row_bytes - byte);
          packed[i] = _mm256_load_si256(reinterpret_cast<const __m256i*>(padded));
        }
      }
      int32_t* target = panel + k / 4 * kLanes;
      switch (plane) {
        case kNibbles:
          for (int i = 0; i < 8; ++i) words[i] = _mm256_xor_si256(_mm256_and_si256(packed[i], low), eight);
          transpose_words(words, target, 2 * kLanes);
          for (int i = 0; i < 8; ++i)
            words[i] = _mm256_xor_si256(_mm256_and_si256(_mm256_srli_epi16(packed[i], 4), low), eight);
          transpose_words(words, target + kLanes, 2 * kLanes);
          break;
        case kBytes:
          for (int i = 0; i < 8; ++i) words[i] = _mm256_xor_si256(packed[i], middle);
          transpose_words(words, target, kLanes);
          break;
        case kHigh:
          for (int i = 0; i < 8; ++i)
            words[i] = _mm256_xor_si256(_mm256_and_si256(_mm256_srli_epi16(packed[i], 4), low), eight);
          transpose_words(words, target, kLanes);
          break;
        case kLow:
          for (int i = 0; i < 8; ++i) words[i] = _mm256_and_si256(packed[i], low);
          transpose_words(words, target, kLanes);
          break;
      }
    }
  }
}

// c [kRows, kLanes of kBlock] += x times a panel, shifted left.
#if SQAP_DOT32
inline void multiply(int32_t* c, const int8_t* x, int64_t ldx, const int32_t* panel, int64_t steps, int, int) {
  Vector sum[kRows][kVectors];
  for (int i = 0; i < kRows; ++i)
    for (int j = 0; j < kVectors; ++j) sum[i][j] = load(c + i * kBlock + j * kVectorLanes);
  for (int64_t step = 0; step < steps; ++step) {
    Vector u[kVectors];
    for (int j = 0; j < kVectors; ++j) u[j] = load(panel + step * kLanes + j * kVectorLanes);
    for (int i = 0; i < kRows; ++i) {
      int32_t word;
      std::memcpy(&word, x + i * ldx + 4 * step, 4);
      const Vector spread_word = spread(word);
      for (int j = 0; j < kVectors; ++j) sum[i][j] = dot(sum[i][j], u[j], spread_word);
    }
  }
  for (int i = 0; i < kRows; ++i)
    for (int j = 0; j < kVectors; ++j) store(c + i * kBlock + j * kVectorLanes, sum[i][j]);
}
#else
inline void multiply(int32_t* c, const int8_t* x, int64_t ldx, const int32_t* panel, int64_t steps, int chunk,
                     int shift) {
  const Vector ones = _mm256_set1_epi16(1);
  for (int64_t first = 0; first < steps; first += chunk) {
    const int64_t last = std::min<int64_t>(first + chunk, steps);
    Vector sum[kRows][kVectors];  // 16-bit sums of pairs
    for (int i = 0; i < kRows; ++i)
      for (int j = 0; j < kVectors; ++j) sum[i][j] = zero();
    for (int64_t step = first; step < last; ++step) {
      Vector u[kVectors];
      for (int j = 0; j < kVectors; ++j) u[j] = load(panel + step * kLanes + j * kVectorLanes);
      for (int i = 0; i < kRows; ++i) {
        int32_t word;
        std::memcpy(&word, x + i * ldx + 4 * step, 4);
        const Vector spread_word = spread(word);
        for (int j = 0; j < kVectors; ++j)
          sum[i][j] = _mm256_add_epi16(sum[i][j], _mm256_maddubs_epi16(u[j], spread_word));
      }
    }
    for (int i = 0; i < kRows; ++i)
      for (int j = 0; j < kVectors; ++j) {
        int32_t* target = c + i * kBlock + j * kVectorLanes;
        const Vector wide = _mm256_slli_epi32(_mm256_madd_epi16(sum[i][j], ones), shift);
        store(target, add(load(target), wide));
      }
  }
}
#endif

inline uint16_t to_bfloat16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;  // NaN
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

struct Output {
  int32_t* sums;        // if given, the sums as they are, and nothing else
  float* floats;        // else one of these two
  uint16_t* bfloats;
  const float* weight_scale;  // [outputs]
  const float* input_scale;   // [rows]
  const float* bias;          // [outputs] or none
};

void finish(const Output& out, const int32_t* c, const Input& input, int64_t rows, int64_t outputs, int64_t first,
            int offset) {
  const int64_t width = std::min<int64_t>(kBlock, outputs - first);
  for (int64_t row = 0; row < rows; ++row) {
    const int32_t* sums = c + row * kBlock;
    const int32_t correction = offset * input.sums[row];
    if (out.sums != nullptr) {
      for (int64_t n = 0; n < width; ++n) out.sums[row * outputs + first + n] = sums[n] - correction;
      continue;
    }
    float line[kBlock];
    const float scale = out.input_scale[row];
    for (int64_t n = 0; n < width; ++n)
      line[n] = static_cast<float>(sums[n] - correction) * out.weight_scale[first + n] * scale;
    if (out.bias != nullptr)
      for (int64_t n = 0; n < width; ++n) line[n] += out.bias[first + n];
    if (out.floats != nullptr) {
      std::memcpy(out.floats + row * outputs + first, line, width * sizeof(float));
    } else {
      for (int64_t n = 0; n < width; ++n) out.bfloats[row * outputs + first + n] = to_bfloat16(line[n]);
    }
  }
}

void run(const Output& out, const int8_t* x, int64_t ldx, int64_t rows, int64_t inputs, const uint8_t* weight,
         int64_t ldw, int64_t outputs, int bits) {
  Input input;
  prepare(input, x, ldx, rows, inputs, bits == 4);
  const int64_t row_bytes = bits == 4 ? inputs / 2 : inputs;
  const int64_t padded_rows = round_up(rows, kRows);
  const int64_t blocks = (outputs + kBlock - 1) / kBlock;
  Plane planes[2] = {kNibbles, kLow};
  int num_planes = 1;
  if (bits == 8) {
#if SQAP_DOT32
    planes[0] = kBytes;
#else
    planes[0] = kHigh;
    num_planes = 2;
#endif
  }
#pragma omp parallel
  {
    std::vector<int32_t> panels(kPanels * kSteps * kLanes), c(padded_rows * kBlock);
#pragma omp for schedule(dynamic)
    for (int64_t block = 0; block < blocks; ++block) {
      std::fill(c.begin(), c.end(), 0);
      for (int64_t start = 0; start < input.depth; start += kDepth) {
        const int64_t depth = std::min<int64_t>(kDepth, input.depth - start);
        for (int plane = 0; plane < num_planes; ++plane) {
          unpack(panels.data(), weight, ldw, outputs, row_bytes, block * kBlock, start, depth, planes[plane]);
          const int shift = planes[plane] == kHigh ? 4 : 0;
          for (int panel = 0; panel < kPanels; ++panel)
            for (int64_t row = 0; row < padded_rows; row += kRows)
              multiply(c.data() + row * kBlock + panel * kLanes, input.values.data() + row * input.depth + start,
                       input.depth, panels.data() + panel * kSteps * kLanes, depth / 4, input.chunk, shift);
        }
      }
      finish(out, c.data(), input, rows, outputs, block * kBlock, bits == 4 ? 8 : 128);
    }
  }
}

}  // namespace

extern "C" {

const char* sqap_isa() { return kIsa; }

// x int8 [rows, inputs] times weight [outputs, inputs] transposed -> int32 [rows, outputs]. ld: bytes from row to row.
void sqap_accumulate(int32_t* sums, const int8_t* x, int64_t ldx, int64_t rows, int64_t inputs, const uint8_t* weight,
                     int64_t ldw, int64_t outputs, int bits) {
  run(Output{sums, nullptr, nullptr, nullptr, nullptr, nullptr}, x, ldx, rows, inputs, weight, ldw, outputs, bits);
}

// The same, times weight_scale [outputs] and input_scale [rows], plus bias [outputs] or none -> float or bfloat16.
void sqap_linear(void* y, int is_bfloat16, const int8_t* x, int64_t ldx, const float* input_scale, int64_t rows,
                 int64_t inputs, const uint8_t* weight, int64_t ldw, const float* weight_scale, const float* bias,
                 int64_t outputs, int bits) {
  const Output out{nullptr, is_bfloat16 ? nullptr : static_cast<float*>(y),
                   is_bfloat16 ? static_cast<uint16_t*>(y) : nullptr, weight_scale, input_scale, bias};
  run(out, x, ldx, rows, inputs, weight, ldw, outputs, bits);
}

}  // extern "C"
