// Shared by all kernels; engines/cuda.py puts this text before each of them, for CuPy's cache does not see
// included files.

#ifndef SHARED_MEMORY
#define SHARED_MEMORY(type, name) extern __shared__ type name[]
#endif

constexpr int BLOCK = 256;  // threads of every block
#define NOT_A_NUMBER __int_as_float(0x7fffffff)

// An image as the launchers make it: (height, width) float, mean 0 and variance 1, NaN where invalid.
struct Image {
  const float* pixels;
  int height, width;

  __device__ float at(int row, int col) const {  // NaN outside, as for every other pixel that has no value
    return row >= 0 && row < height && col >= 0 && col < width ? __ldg(pixels + (size_t)row * width + col)
                                                               : NOT_A_NUMBER;
  }
  __device__ bool holds(int row, int col, int n_rows, int n_cols) const {
    return row >= 0 && col >= 0 && row + n_rows <= height && col + n_cols <= width;
  }
};

// Sum of one value of each thread of a block of BLOCK threads, known to all of them.
__device__ inline float block_sum(float value) {
  __shared__ float part[BLOCK / 32];
  for (int step = 16; step > 0; step /= 2) value += __shfl_down_sync(0xffffffffu, value, step);
  __syncthreads();  // the parts of an earlier sum have been read
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0.0f;
  for (int k = 0; k < BLOCK / 32; ++k) total += part[k];
  return total;
}

// Mean of the valid pixels of a rectangle, 0 if there is none. `complete` becomes whether all of them are.
__device__ inline float level_of(const Image& image, int row, int col, int n_rows, int n_cols, bool& complete) {
  float sum = 0.0f, count = 0.0f;
  for (int k = threadIdx.x; k < n_rows * n_cols; k += BLOCK) {
    const float value = image.at(row + k / n_cols, col + k % n_cols);
    if (!isnan(value)) {
      sum += value;
      count += 1.0f;
    }
  }
  sum = block_sum(sum);
  count = block_sum(count);
  complete = count == (float)n_rows * n_cols;
  return count > 0.0f ? sum / count : 0.0f;
}

// Sums over the pixel pairs (a, b) that are valid on both sides.
struct PairSums {
  float n = 0.0f, a = 0.0f, b = 0.0f, aa = 0.0f, bb = 0.0f, ab = 0.0f;

  __device__ void add(float u, float v) {
    if (isnan(u) || isnan(v)) return;
    n += 1.0f;
    a += u;
    b += v;
    aa += u * u;
    bb += v * v;
    ab += u * v;
  }
  __device__ void add(const PairSums& other) {
    n += other.n;
    a += other.a;
    b += other.b;
    aa += other.aa;
    bb += other.bb;
    ab += other.ab;
  }
  // Pearson's coefficient: NaN where less than half of the patch is valid, 0 where a side is flat. In double,
  // for a variance is the difference of two sums.
  __device__ float pearson(int patch_size, float flat, bool same) const {
    if (2.0f * n < patch_size) return NOT_A_NUMBER;
    const double mean_a = (double)a / n, mean_b = (double)b / n;
    const double var_a = (double)aa / n - mean_a * mean_a, var_b = (double)bb / n - mean_b * mean_b;
    if (var_a <= flat || var_b <= flat) return 0.0f;
    if (same) return 1.0f;
    const float r = (float)(((double)ab / n - mean_a * mean_b) / sqrt(var_a * var_b));
    return fminf(1.0f, fmaxf(-1.0f, r));
  }
};
