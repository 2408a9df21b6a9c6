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

// Sums over the pixel pairs (a, b) that are valid on both sides. In double: a variance is a difference of sums,
// and only so a flat patch beside a bright one is seen to be flat.
struct PairSums {
  double n = 0.0, a = 0.0, b = 0.0, aa = 0.0, bb = 0.0, ab = 0.0;

  __device__ void add(float first, float second) {
    if (isnan(first) || isnan(second)) return;
    const double u = first, v = second;
    n += 1.0;
    a += u;
    b += v;
    aa += u * u;
    bb += v * v;
    ab += u * v;
  }
  __device__ PairSums& operator+=(const PairSums& other) {
    n += other.n;
    a += other.a;
    b += other.b;
    aa += other.aa;
    bb += other.bb;
    ab += other.ab;
    return *this;
  }
  // In planes of memory, `next` doubles apart.
  __device__ void store(double* to, int next) const {
    to[0] = n;
    to[next] = a;
    to[2 * next] = b;
    to[3 * next] = aa;
    to[4 * next] = bb;
    to[5 * next] = ab;
  }
  __device__ static PairSums load(const double* from, int next) {
    PairSums sums;
    sums.n = from[0];
    sums.a = from[next];
    sums.b = from[2 * next];
    sums.aa = from[3 * next];
    sums.bb = from[4 * next];
    sums.ab = from[5 * next];
    return sums;
  }
  // Pearson's coefficient: NaN where less than half of the patch is valid, 0 where a side is flat.
  __device__ float pearson(int patch_size, float flat, bool same) const {
    if (2.0 * n < patch_size) return NOT_A_NUMBER;
    double part = 1.0f / (float)n;
    part *= 2.0 - n * part;  // one step of Newton: 1 / n to the precision of a double, without a subroutine
    const double mean_a = a * part, mean_b = b * part;
    const float var_a = (float)(aa * part - mean_a * mean_a), var_b = (float)(bb * part - mean_b * mean_b);
    if (var_a <= flat || var_b <= flat) return 0.0f;
    if (same) return 1.0f;
    const float r = (float)(ab * part - mean_a * mean_b) * rsqrtf(var_a) * rsqrtf(var_b);
    return fminf(1.0f, fmaxf(-1.0f, r));
  }
};
