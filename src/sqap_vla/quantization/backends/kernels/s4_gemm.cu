// Copyright 2026 The sqap_vla Authors
// SPDX-License-Identifier: Apache-2.0
//
// Four-bit activations times four-bit weights on tensor cores (mma.sync.m16n8k64 s4, compute capability 8.0, 8.6, 8.7,
// 8.9), exact int32 sums, scaled in the epilogue. Built at first use by ../cuda_s4.py; plain C interface.
//
//   tile      a block makes 2 * RM * 16 rows times 4 * RN * 8 outputs with eight warps, two by four, each RM x RN
//             products of 16 x 8; 128 inputs (64 bytes of a row) at a time, in three stages of shared memory
//   pitch     a row takes 80 bytes of shared memory: then the 32 words of a fragment lie in 32 banks
//   fragment  as the PTX manual has it for m16n8k64, with group = lane / 4, t = lane % 4. A word is eight inputs.
//                 a0, a1: rows group, group + 8, inputs 8 t ...         a2, a3: the same, 32 inputs further
//                 b0, b1: output group, inputs 8 t ... and 32 further   c0..c3: rows group, group + 8; outputs 2 t, 2 t + 1
//
// Everything but the product itself and the asynchronous copies is plain C++: compiled with SQAP_EMULATE by a C++
// compiler, the same functions run on the CPU, and a machine without a GPU still catches a wrong index.

#include <cstdint>
#include <cstring>

#ifdef SQAP_EMULATE
#include <vector>
#define SQAP_DEVICE inline
#else
#include <cuda_runtime.h>
#define SQAP_DEVICE __device__ __forceinline__
#endif

namespace {

constexpr int kThreads = 256;
constexpr int kDepth = 64;   // bytes of a row in one tile: 128 inputs
constexpr int kPitch = 80;   // bytes from row to row in shared memory
constexpr int kChunk = 16;   // bytes of one asynchronous copy
constexpr int kStages = 3;

struct Problem {
  const uint8_t* x;  // [rows, bytes] packed
  const uint8_t* w;  // [outputs, bytes] packed, stride_w from row to row
  int64_t stride_w;
  int rows, outputs, bytes;
  int32_t* sums;  // if given, the sums as they are; else y
  void* y;
  int is_bfloat16;
  const float* x_scale;  // [rows]
  const float* w_scale;  // [outputs]
  const float* bias;     // [outputs] or none
};

template <int RM, int RN>
struct Tile {
  static constexpr int kRows = 2 * RM * 16, kOutputs = 4 * RN * 8;
  static constexpr int kStageBytes = (kRows + kOutputs) * kPitch;
};

// Chunk number `index` of a tile of a matrix: where it comes from (none outside of the matrix) and where it goes.
struct Copy {
  const uint8_t* from;
  int to;
};

SQAP_DEVICE Copy chunk_of(const uint8_t* matrix, int64_t stride, int first_row, int rows, int first_byte, int bytes,
                          int index) {
  constexpr int per_row = kDepth / kChunk;
  const int row = index / per_row, byte = index % per_row * kChunk;
  const bool inside = first_row + row < rows && first_byte + byte < bytes;
  return {inside ? matrix + (first_row + row) * stride + first_byte + byte : nullptr, row * kPitch + byte};
}

SQAP_DEVICE uint32_t word_at(const uint8_t* shared, int row, int byte) {
  return *reinterpret_cast<const uint32_t*>(shared + row * kPitch + byte);
}

// half: which 64 of the tile's 128 inputs.
template <int RM, int RN>
SQAP_DEVICE void load_fragments(const uint8_t* stage, int thread, int half, uint32_t (&a)[RM][4], uint32_t (&b)[RN][2]) {
  const int warp = thread / 32, group = thread % 32 / 4, t = thread % 4;
  const int first_row = warp / 4 * RM * 16, first_output = warp % 4 * RN * 8, byte = half * 32 + t * 4;
  const uint8_t* weights = stage + Tile<RM, RN>::kRows * kPitch;
#pragma unroll
  for (int i = 0; i < RM; ++i) {
    const int row = first_row + i * 16 + group;
    a[i][0] = word_at(stage, row, byte);
    a[i][1] = word_at(stage, row + 8, byte);
    a[i][2] = word_at(stage, row, byte + 16);
    a[i][3] = word_at(stage, row + 8, byte + 16);
  }
#pragma unroll
  for (int j = 0; j < RN; ++j) {
    const int output = first_output + j * 8 + group;
    b[j][0] = word_at(weights, output, byte);
    b[j][1] = word_at(weights, output, byte + 16);
  }
}

SQAP_DEVICE uint16_t to_bfloat16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;  // NaN
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

SQAP_DEVICE float product(float a, float b) {
#ifdef SQAP_EMULATE
  return a * b;
#else
  return __fmul_rn(a, b);  // never fused with the bias, so that all backends agree
#endif
}

template <int RM, int RN>
SQAP_DEVICE void store(const Problem& p, int block_row, int block_output, int thread, const int32_t (&c)[RM][RN][4]) {
  const int warp = thread / 32, group = thread % 32 / 4, t = thread % 4;
#pragma unroll
  for (int i = 0; i < RM; ++i)
#pragma unroll
    for (int j = 0; j < RN; ++j)
#pragma unroll
      for (int each = 0; each < 4; ++each) {
        const int row = block_row * Tile<RM, RN>::kRows + (warp / 4 * RM + i) * 16 + group + each / 2 * 8;
        const int output = block_output * Tile<RM, RN>::kOutputs + (warp % 4 * RN + j) * 8 + 2 * t + each % 2;
        if (row >= p.rows || output >= p.outputs) continue;
        const int64_t at = static_cast<int64_t>(row) * p.outputs + output;
        if (p.sums != nullptr) {
          p.sums[at] = c[i][j][each];
          continue;
        }
        float value = product(product(static_cast<float>(c[i][j][each]), p.w_scale[output]), p.x_scale[row]);
        if (p.bias != nullptr) value += p.bias[output];
        if (p.is_bfloat16)
          static_cast<uint16_t*>(p.y)[at] = to_bfloat16(value);
        else
          static_cast<float*>(p.y)[at] = value;
      }
}

// Chunks of both matrices that one thread copies: chunk(index) for those of x, then those of w.
template <int RM, int RN>
SQAP_DEVICE Copy copy_of(const Problem& p, int block_row, int block_output, int step, int index) {
  using T = Tile<RM, RN>;
  constexpr int x_chunks = T::kRows * (kDepth / kChunk);
  if (index < x_chunks) return chunk_of(p.x, p.bytes, block_row * T::kRows, p.rows, step * kDepth, p.bytes, index);
  Copy copy = chunk_of(p.w, p.stride_w, block_output * T::kOutputs, p.outputs, step * kDepth, p.bytes, index - x_chunks);
  copy.to += T::kRows * kPitch;
  return copy;
}

// Two int8 values in [-8, 7] -> one byte, the first in the low nibble.
SQAP_DEVICE uint8_t pack(int8_t even, int8_t odd) {
  return static_cast<uint8_t>((even & 15) | (odd << 4));
}

#ifndef SQAP_EMULATE

SQAP_DEVICE void copy_async(uint8_t* shared, const uint8_t* from, const uint8_t* any) {
  const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int size = from == nullptr ? 0 : kChunk;  // what is missing becomes zeros
  const uint8_t* source = from == nullptr ? any : from;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(source), "r"(size) : "memory");
}

SQAP_DEVICE void multiply(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k64.row.col.s32.s4.s4.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

template <int RM, int RN>
__global__ void __launch_bounds__(kThreads) gemm(Problem p) {
  using T = Tile<RM, RN>;
  extern __shared__ __align__(16) uint8_t shared[];
  const int thread = threadIdx.x, block_row = blockIdx.x, block_output = blockIdx.y;
  const int steps = (p.bytes + kDepth - 1) / kDepth;
  constexpr int chunks = (T::kRows + T::kOutputs) * (kDepth / kChunk);

  auto fetch = [&](int step) {  // always one group of copies, empty past the end, so that counting groups is enough
    if (step < steps)
      for (int index = thread; index < chunks; index += kThreads) {
        const Copy copy = copy_of<RM, RN>(p, block_row, block_output, step, index);
        copy_async(shared + step % kStages * T::kStageBytes + copy.to, copy.from, p.x);
      }
    asm volatile("cp.async.commit_group;\n" ::: "memory");
  };

  for (int step = 0; step < kStages - 1; ++step) fetch(step);
  int32_t c[RM][RN][4] = {};
  for (int step = 0; step < steps; ++step) {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(kStages - 2) : "memory");
    __syncthreads();  // this step's tiles are there for all, and nobody reads the stage that is filled next
    fetch(step + kStages - 1);
    const uint8_t* stage = shared + step % kStages * T::kStageBytes;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      uint32_t a[RM][4], b[RN][2];
      load_fragments<RM, RN>(stage, thread, half, a, b);
#pragma unroll
      for (int i = 0; i < RM; ++i)
#pragma unroll
        for (int j = 0; j < RN; ++j) multiply(c[i][j], a[i], b[j]);
    }
  }
  store<RM, RN>(p, block_row, block_output, thread, c);
}

__global__ void pack_rows(uint8_t* packed, const int8_t* x, int64_t stride, int rows, int bytes) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= static_cast<int64_t>(rows) * bytes) return;
  const int8_t* pair = x + index / bytes * stride + index % bytes * 2;
  packed[index] = pack(pair[0], pair[1]);
}

template <int RM, int RN>
cudaError_t launch(const Problem& p, cudaStream_t stream) {
  using T = Tile<RM, RN>;
  constexpr int shared_bytes = kStages * T::kStageBytes;
  const cudaError_t error =
      cudaFuncSetAttribute(gemm<RM, RN>, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  if (error != cudaSuccess) return error;
  // Row tiles first: those that read the same weights run side by side, and these come from memory once.
  const dim3 grid((p.rows + T::kRows - 1) / T::kRows, (p.outputs + T::kOutputs - 1) / T::kOutputs);
  gemm<RM, RN><<<grid, kThreads, shared_bytes, stream>>>(p);
  return cudaGetLastError();
}

#else

// One block, thread after thread between barriers; the product by the manual's definition.
template <int RM, int RN>
void emulate_block(const Problem& p, int block_row, int block_output) {
  using T = Tile<RM, RN>;
  constexpr int chunks = (T::kRows + T::kOutputs) * (kDepth / kChunk);
  struct Registers {
    int32_t c[RM][RN][4];
    uint32_t a[RM][4], b[RN][2];
  };
  std::vector<Registers> threads(kThreads);
  std::memset(static_cast<void*>(threads.data()), 0, threads.size() * sizeof(Registers));
  alignas(16) static thread_local uint8_t stage[T::kStageBytes];
  auto nibble = [](uint32_t word, int i) { return static_cast<int32_t>(word << (28 - 4 * i)) >> 28; };
  for (int step = 0; step * kDepth < p.bytes; ++step) {
    std::memset(stage, 0xee, sizeof stage);
    for (int index = 0; index < chunks; ++index) {
      const Copy copy = copy_of<RM, RN>(p, block_row, block_output, step, index);
      if (copy.from == nullptr)
        std::memset(stage + copy.to, 0, kChunk);
      else
        std::memcpy(stage + copy.to, copy.from, kChunk);
    }
    for (int half = 0; half < 2; ++half) {
      for (int thread = 0; thread < kThreads; ++thread)
        load_fragments<RM, RN>(stage, thread, half, threads[thread].a, threads[thread].b);
      for (int warp = 0; warp < kThreads; warp += 32)
        for (int i = 0; i < RM; ++i)
          for (int j = 0; j < RN; ++j)
            for (int row = 0; row < 16; ++row)
              for (int output = 0; output < 8; ++output) {
                int32_t& sum = threads[warp + row % 8 * 4 + output / 2].c[i][j][row / 8 * 2 + output % 2];
                for (int k = 0; k < 64; ++k) {
                  const uint32_t a = threads[warp + row % 8 * 4 + k % 32 / 8].a[i][row / 8 + k / 32 * 2];
                  const uint32_t b = threads[warp + output * 4 + k % 32 / 8].b[j][k / 32];
                  sum += nibble(a, k % 8) * nibble(b, k % 8);
                }
              }
    }
  }
  for (int thread = 0; thread < kThreads; ++thread)
    store<RM, RN>(p, block_row, block_output, thread, threads[thread].c);
}

template <int RM, int RN>
void emulate(const Problem& p) {
  using T = Tile<RM, RN>;
  for (int row = 0; row * T::kRows < p.rows; ++row)
    for (int output = 0; output * T::kOutputs < p.outputs; ++output) emulate_block<RM, RN>(p, row, output);
}

#endif

}  // namespace

extern "C" {

// y or sums [rows, outputs] = x int8 [rows, inputs] in [-8, 7] times w [outputs, inputs / 2] packed. packed: room for
// rows * inputs / 2 bytes. inputs divides by 32; w, stride_w and packed by 16. large: which of two tiles. Returns 0, or
// CUDA's error.
int sqap_s4(int device, void* stream, int large, const int8_t* x, int64_t stride_x, uint8_t* packed, const uint8_t* w,
            int64_t stride_w, int rows, int outputs, int inputs, int32_t* sums, void* y, int is_bfloat16,
            const float* x_scale, const float* w_scale, const float* bias) {
  const Problem p{packed, w,           stride_w, rows,    outputs, inputs / 2,
                  sums,   y,           is_bfloat16, x_scale, w_scale, bias};
#ifdef SQAP_EMULATE
  (void)device;
  (void)stream;
  for (int64_t index = 0; index < static_cast<int64_t>(rows) * p.bytes; ++index) {
    const int8_t* pair = x + index / p.bytes * stride_x + index % p.bytes * 2;
    packed[index] = pack(pair[0], pair[1]);
  }
  large ? emulate<4, 4>(p) : emulate<3, 2>(p);
  return 0;
#else
  cudaError_t error = cudaSetDevice(device);
  if (error != cudaSuccess) return error;
  const auto on = static_cast<cudaStream_t>(stream);
  const int64_t bytes = static_cast<int64_t>(rows) * p.bytes;
  pack_rows<<<static_cast<unsigned>((bytes + 255) / 256), 256, 0, on>>>(packed, x, stride_x, rows, p.bytes);
  error = cudaGetLastError();
  if (error != cudaSuccess) return error;
  return large ? launch<4, 4>(p, on) : launch<3, 2>(p, on);
#endif
}

}  // extern "C"
