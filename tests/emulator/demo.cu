// Kernels that the emulator is tested with: first correct ones, then one for every fault that it must catch.

#ifndef GPUSEG_EMULATOR
#define SHARED_MEMORY(type, name) extern __shared__ type name[]
#endif
#define BLOCK_X 32
#define BLOCK_Y 8

__device__ __forceinline__ int clamped(int i, int n) { return min(max(i, 0), n - 1); }

// Sum over the window of `RADIUS` around each pixel, edges repeated; and the sum of those sums.
// in, out  (rows, cols)    total  (1,)    Launch: grid ceil(cols / 32) x ceil(rows / 8), block 32 x 8.
template <typename T, int RADIUS>
__device__ void box_sum_block(const T* __restrict__ in, T* __restrict__ out, T* total, int rows, int cols) {
  __shared__ T tile[BLOCK_Y + 2 * RADIUS][BLOCK_X + 2 * RADIUS];
  __shared__ T of_warp[BLOCK_Y];
  const int tx = threadIdx.x, ty = threadIdx.y;
  const int left = blockIdx.x * BLOCK_X, top = blockIdx.y * BLOCK_Y;
  for (int y = ty; y < BLOCK_Y + 2 * RADIUS; y += BLOCK_Y)
    for (int x = tx; x < BLOCK_X + 2 * RADIUS; x += BLOCK_X)
      tile[y][x] = in[clamped(top + y - RADIUS, rows) * cols + clamped(left + x - RADIUS, cols)];
  __syncthreads();
  T sum = T(0);
#pragma unroll
  for (int y = 0; y <= 2 * RADIUS; ++y)
#pragma unroll
    for (int x = 0; x <= 2 * RADIUS; ++x) sum += tile[ty + y][tx + x];
  const bool inside = left + tx < cols && top + ty < rows;
  if (inside) out[(top + ty) * cols + left + tx] = sum;
  T part = inside ? sum : T(0);
  for (int step = 16; step > 0; step /= 2) part += __shfl_down_sync(0xffffffffu, part, step);
  if (tx == 0) of_warp[ty] = part;
  __syncthreads();
  if (ty == 0 && tx < BLOCK_Y) {
    part = of_warp[tx];
    for (int step = BLOCK_Y / 2; step > 0; step /= 2)
      part += __shfl_down_sync((1u << BLOCK_Y) - 1u, part, step, BLOCK_Y);
    if (tx == 0) atomicAdd(total, part);
  }
}
extern "C" __global__ void __launch_bounds__(BLOCK_X* BLOCK_Y)
    box_sum(const float* __restrict__ in, float* __restrict__ out, float* total, int rows, int cols) {
  box_sum_block<float, 2>(in, out, total, rows, cols);
}
extern "C" __global__ __launch_bounds__(BLOCK_X* BLOCK_Y, 2) void box_sum_double(const double* in,
                                                                                 double* out, double* total,
                                                                                 int rows, int cols) {
  box_sum_block<double, 7>(in, out, total, rows, cols);
}

template <typename T>
__global__ void scaled(const T* in, T* out, T factor, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = factor * __ldg(in + i);
}
#define SCALE_KERNEL(type)                                                                       \
  extern "C" __global__ void scale_##type(const type* in, type* out, type factor, long long n) { \
    const long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;                        \
    if (i < n) out[i] = factor * in[i];                                                          \
  }
SCALE_KERNEL(float)
SCALE_KERNEL(int)

// Where each thread stood, packed into one number. where  (depth, rows, cols)    Launch: any, without
// remainder.
extern "C" __global__ void where_am_i(int* where) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
  const int z = blockIdx.z * blockDim.z + threadIdx.z;
  where[(z * gridDim.y * blockDim.y + y) * gridDim.x * blockDim.x + x] = 10000 * z + 100 * y + x;
}

// out[k] = number of values equal to k, and sum of squares by a product with itself. n_bins <= 64
extern "C" __global__ void histogram(const unsigned char* values, int n, int* counts,
                                     unsigned long long* squares) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    atomicAdd(&counts[values[i]], 1);
    atomicAdd(squares, (unsigned long long)values[i] * values[i]);
  }
}

// Shuffles, votes and barriers that count, each in a row of its own. out  (8, n)    Launch: one block of n
// threads.
extern "C" __global__ void warp_operations(int* out) {
  const int i = threadIdx.x, n = blockDim.x;
  out[i] = __shfl_sync(0xffffffffu, i, 5);
  out[n + i] = __shfl_up_sync(0xffffffffu, i, 3u, 8);
  out[2 * n + i] = __shfl_down_sync(0xffffffffu, i, 3u, 8);
  out[3 * n + i] = __shfl_xor_sync(0xffffffffu, i, 6);
  out[4 * n + i] = (int)__ballot_sync(0xffffffffu, i % 3 == 0);
  out[5 * n + i] = __any_sync(0xffffffffu, i == 40) + 2 * __all_sync(0xffffffffu, i < 32);
  out[6 * n + i] =
      __syncthreads_count(i < 10) + 100 * __syncthreads_or(i == 3) + 200 * __syncthreads_and(i < n);
  if (i % 32 < 16)
    out[7 * n + i] = __shfl_sync(0x0000ffffu, i, 15);
  else
    out[7 * n + i] = __shfl_sync(0xffff0000u, i, 16);
}

// Launch: one block of n threads, n * 4 bytes of dynamic shared memory.
extern "C" __global__ void reversed(const float* in, float* out, int n, int offset) {
  SHARED_MEMORY(float, line);
  const int i = threadIdx.x;
  line[i + offset] = in[i];
  __syncthreads();
  out[i] = line[n - 1 - i + offset];
}

// (rows) pairs: z -> z * z. Launch: one thread each.
extern "C" __global__ void squared(float2* z) {
  const float2 v = z[threadIdx.x];
  z[threadIdx.x] = make_float2(v.x * v.x - v.y * v.y, 2.0f * v.x * v.y);
}

// The faults.

extern "C" __global__ void missing_barrier(const float* in, float* out) {
  __shared__ float line[64];
  line[threadIdx.x] = in[threadIdx.x];
  out[threadIdx.x] = line[63 - threadIdx.x];
}
extern "C" __global__ void blocks_that_race(float* out) {
  if (threadIdx.x == 0) out[0] = (float)blockIdx.x;
}
extern "C" __global__ void divergent_barrier(float* out, int n) {
  if ((int)threadIdx.x >= n) return;
  __syncthreads();
  out[threadIdx.x] = 1.0f;
}
extern "C" __global__ void two_barriers_for_one(float* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1.0f;
}
extern "C" __global__ void half_warp_shuffle(float* out) {
  float v = threadIdx.x;
  if (threadIdx.x < 16) v = __shfl_xor_sync(0xffffffffu, v, 1);
  out[threadIdx.x] = v;
}
extern "C" __global__ void not_in_its_mask(float* out) {
  out[threadIdx.x] = __shfl_sync(0x0000ffffu, (float)threadIdx.x, 0);
}
extern "C" __global__ void shuffle_past_the_end(float* out) {
  out[threadIdx.x] = __shfl_sync(0xffffffffu, 1.0f, 31);
}
extern "C" __global__ void unwritten_shared(float* out) {
  __shared__ float line[64];
  if (threadIdx.x < 60) line[threadIdx.x] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = line[threadIdx.x];
}
extern "C" __global__ void unwritten_dynamic_shared(float* out) {
  SHARED_MEMORY(float, line);
  if (threadIdx.x < 60) line[threadIdx.x] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = line[threadIdx.x];
}
extern "C" __global__ void outside_shared(const float* in, float* out, int offset) {
  __shared__ float line[64];
  float* moved = line + offset;
  moved[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = line[threadIdx.x];
}
extern "C" __global__ void undefined_overflow(int* out, int start) {
  out[threadIdx.x] = start + (int)threadIdx.x;
}
extern "C" __global__ void misaligned(const float* in, float* out) {
  const float4 v = *reinterpret_cast<const float4*>(in + threadIdx.x);
  out[threadIdx.x] = v.x;
}
