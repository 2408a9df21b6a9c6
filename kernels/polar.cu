// Symmetry about a point: Pearson's coefficient of the circular patch at every pixel with what a rotation, a
// reflection or a glide reflection makes of it, on samples of the cubic spline through the image.
// Launchers and shapes: engines/cuda.py. What is sampled and compared: gpuseg/polar.py. Twin: engines/cpu.py.
// Reference: tests/naive.py.
//
// The work at a pixel is 11 multiply-adds and 9 values of shared memory for each sample, one multiply-add, two values
// and 16 bytes that all threads read alike for each pair: shared memory is the limit (figures in README.md).

enum Kind { SAME_PATCH = 0, INVOLUTION = 1, OTHER_PATCH = 2 };  // as in gpuseg/polar.py
enum State { DONE = 0, MASKED = 1, CAREFUL = 2 };               // what is left to do for a tile

constexpr int COLS = 32;             // columns of a tile: lanes of a warp are neighbours in memory
constexpr int STRIP = 4;             // pixels of a column that a thread interpolates together
constexpr int PROBES = 64;           // samples that tell the level of a patch, about
constexpr float FAINT = 1e-4f;       // below this variance single precision does not do (engines/cpu.py)
constexpr float CANCELLED = 4.0f;    // nor where a mean square is so much larger than its variance
constexpr float FLAT_SQUARE = 1e-6f; // below this mean square a variance of 0 is one
constexpr float ROUNDING = 1e-9f;    // of a sum of weights

// How a block is shared out: float has a thread for each pixel of 8 rows; doubles, which take twice the room,
// have two for each pixel of 4 rows.
template <class T>
struct Tile {
  static constexpr int rows = 32 / sizeof(T), pixels = rows * COLS, shares = BLOCK / pixels;
  static constexpr int groups = BLOCK * STRIP / pixels;
};

template <class T>
struct alignas(16) Four {
  T at[4];
};

// The places in a batch of two samples that are compared, and the weight: as a multiple of 2^-22, of which sums are
// exact in float too, and the little that is left. Whether half of a patch is known must not depend on rounding.
template <class T>
struct alignas(sizeof(T) == sizeof(float) ? 16 : 8) Pair {
  int one, other;
  T coarse, rest;
  __device__ T weight() const { return coarse + rest; }
};

// A PolarPlan. corners (S, 2) int; splines (S, 2) Four; own (S) T; pairs (P) Pair;
// batches (n_batches + 1, 2) int: first sample, first run; runs (R + 1, 2) int: first pair, operation.
template <class T>
struct Plan {
  const int* corners;
  const Four<T>* splines;
  const T* own;
  const Pair<T>* pairs;
  const int* batches;
  const int* runs;
  const int* kinds;
  int n_samples, n_batches, n_operations, reach;

  __device__ int depth() const { return Tile<T>::rows + 2 * reach; }
  __device__ int pitch() const { return COLS + 2 * reach; }
};

// Spline coefficients (height, width) double.
struct Coefficients {
  const double* values;
  int height, width;

  __device__ double at(int row, int col) const {  // NaN outside, as where the image is invalid
    return row >= 0 && row < height && col >= 0 && col < width ? values[(size_t)row * width + col] : NOT_A_NUMBER;
  }
};

// One pass of the filter that turns pixels into cubic spline coefficients, along the rows (axis 1) or the
// columns (axis 0); the line is mirrored at its outermost pixels. The weights fall by 0.27 from pixel to pixel:
// those left out are 1e-16 of the sum.
// in, out (height, width) double. Launch: grid ceil(height * width / BLOCK), block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) spline_coefficients(
    const double* in, int height, int width, int axis, double* out) {
  const size_t here = (size_t)blockIdx.x * BLOCK + threadIdx.x;
  if (here >= (size_t)height * width) return;
  const int i = axis ? here % width : here / width, length = axis ? width : height;
  const ptrdiff_t step = axis ? 1 : width;
  const double* line = in + here - i * step;
  const int period = max(1, 2 * (length - 1));
  double weight = 1.7320508075688772, sum = weight * in[here];  // sqrt(3) (sqrt(3) - 2)^k
  for (int k = 1; k <= 28; ++k) {
    weight *= -0.26794919243112270;
    int left = i - k, right = i + k;
    if (left < 0 || right >= length) {
      left = abs(left) % period;
      right %= period;
      left = left < length ? left : period - left;
      right = right < length ? right : period - right;
    }
    sum += weight * (line[left * step] + line[right * step]);
  }
  out[here] = sum;
}

// Copies the coefficients around a tile; true if none is NaN.
template <class T>
__device__ bool copy_region(const Coefficients& coefficients, const Plan<T>& plan, int row, int col, T* region) {
  const int pitch = plan.pitch(), size = plan.depth() * pitch;
  bool unknown = false;
  for (int k = threadIdx.x; k < size; k += BLOCK) {
    region[k] = coefficients.at(row + k / pitch, col + k % pitch);
    unknown |= isnan(region[k]);
  }
  return !__syncthreads_or(unknown);
}

// About the mean of a patch, from the pixels at some of its samples: what the sums are taken about.
template <class T>
__device__ T level_of_patch(const Plan<T>& plan, const T* region, int pixel) {
  const int pitch = plan.pitch(), step = plan.n_samples / PROBES | 1;
  const T* here = region + (pixel / COLS + plan.reach + 1) * pitch + pixel % COLS + plan.reach + 1;
  T sum = 0, count = 0;
  for (int k = 0; k < plan.n_samples; k += step) {
    const T value = here[plan.corners[2 * k] * pitch + plan.corners[2 * k + 1]];
    if (!isnan(value)) {
      sum += value;
      count += 1;
    }
  }
  return count > 0 ? sum / count : T(0);
}

// values (samples of the batch, pixels) = the spline at each sample of a batch about each pixel, less its level.
// A warp takes a sample; a thread takes STRIP pixels of a column, which share the pixels they are made from.
template <class T, bool masked>
__device__ void interpolate(const Plan<T>& plan, const T* region, const T* level, int first, int end, T* values) {
  const int strip = threadIdx.x % (Tile<T>::pixels / STRIP), group = threadIdx.x / (Tile<T>::pixels / STRIP);
  const int row = strip / COLS * STRIP, col = strip % COLS, pitch = plan.pitch();
  for (int k = first + group; k < end; k += Tile<T>::groups) {
    const Four<T> down = plan.splines[2 * k], across = plan.splines[2 * k + 1];
    const T* at = region + (row + plan.reach + plan.corners[2 * k]) * pitch + col + plan.reach + plan.corners[2 * k + 1];
    T sum[STRIP] = {};
#pragma unroll
    for (int y = 0; y < STRIP + 3; ++y) {
      const T* line = at + y * pitch;
      T value = across.at[0] * line[0] + across.at[1] * line[1] + across.at[2] * line[2];
      if (!masked || across.at[3] > 0) value += across.at[3] * line[3];  // an unknown pixel without weight is none
#pragma unroll
      for (int p = 0; p < STRIP; ++p)
        if (y >= p && y < p + 4 && (!masked || y < p + 3 || down.at[3] > 0)) sum[p] += down.at[y - p] * value;
    }
    T* to = values + (k - first) * Tile<T>::pixels + row * COLS + col;
#pragma unroll
    for (int p = 0; p < STRIP; ++p) to[p * COLS] = sum[p] - level[(row + p) * COLS + col];
  }
}

// Pearson's coefficient from means (0 is the level), mean squares and mean product, 0 where a side is flat.
// `redo` becomes true where single precision does not do.
template <class T>
__device__ float pearson(T mean_a, T mean_b, T square_a, T square_b, T product, float flat, bool& redo) {
  const T var_a = square_a - mean_a * mean_a, var_b = square_b - mean_b * mean_b;
  if (sizeof(T) == sizeof(float)) {
    const T certain = (T)(flat / 10);
    if ((var_a <= certain && square_a < FLAT_SQUARE) || (var_b <= certain && square_b < FLAT_SQUARE)) return 0.0f;
    if (!(var_a >= FAINT && var_b >= FAINT && CANCELLED * var_a >= square_a && CANCELLED * var_b >= square_b)) {
      redo = true;
      return 0.0f;
    }
  } else if (var_a <= flat || var_b <= flat) {
    return 0.0f;
  }
  const T r = (product - mean_a * mean_b) / sqrt(var_a * var_b);
  return fminf(1.0f, fmaxf(-1.0f, (float)r));
}

// A sum of many sums, of which rounding loses nothing: what the last addition lost is added to the next.
template <class T>
struct Total {
  T sum, lost;

  __device__ void add(T value) {
    const T whole = value - lost, next = sum + whole;
    lost = (next - sum) - whole;
    sum = next;
  }
};

// Where the scores of a tile go: out (n_operations, height, width) float.
struct Scores {
  float* out;
  int height, width, row, col;

  __device__ void set(int operation, int pixel, float score) const {
    const int y = row + pixel / COLS, x = col + pixel % COLS;
    if (y < height && x < width) out[((size_t)operation * height + y) * width + x] = score;
  }
  __device__ bool hold(int pixel) const { return row + pixel / COLS < height && col + pixel % COLS < width; }
};

// Scores at the pixels of a tile when all that their patches reach is known.
// sums (n_operations, 3, BLOCK) Total: of products, of the other side's samples, of their squares; each thread has its
// own. Returns whether the thread's pixel needs more care.
__device__ inline bool score_complete(
    const Plan<float>& plan, const float* region, const float* level, float* values,
    Total<float>* sums, float flat, const Scores& scores) {
  Total<float> mean{}, square{};
  sums += threadIdx.x;
  for (int k = 0; k < 3 * plan.n_operations; ++k) sums[k * BLOCK] = {};
  for (int batch = 0; batch < plan.n_batches; ++batch) {
    const int* now = plan.batches + 2 * batch;
    __syncthreads();  // the values of the last batch have been read
    interpolate<float, false>(plan, region, level, now[0], now[2], values);
    __syncthreads();
    const float* mine = values + threadIdx.x;
    float a = 0.0f, aa = 0.0f;
    for (int k = now[0]; k < now[2]; ++k) {
      const float value = mine[(k - now[0]) * BLOCK], part = plan.own[k] * value;
      a += part;
      aa += part * value;
    }
    mean.add(a);
    square.add(aa);
    for (int run = now[1]; run < now[3]; ++run) {
      const int operation = plan.runs[2 * run + 1];
      const bool other = plan.kinds[operation] == OTHER_PATCH;
      float ab = 0.0f, b = 0.0f, bb = 0.0f;
      for (int k = plan.runs[2 * run]; k < plan.runs[2 * run + 2]; ++k) {
        const Pair<float> pair = plan.pairs[k];
        const float there = mine[pair.other * BLOCK], part = pair.weight() * there;
        ab += part * mine[pair.one * BLOCK];
        if (other) {
          b += part;
          bb += part * there;
        }
      }
      Total<float>* total = sums + 3 * operation * BLOCK;
      total[0].add(ab);
      if (other) {
        total[BLOCK].add(b);
        total[2 * BLOCK].add(bb);
      }
    }
  }
  bool redo = false;
  for (int k = 0; k < plan.n_operations; ++k) {
    const Total<float>* total = sums + 3 * k * BLOCK;
    const bool other = plan.kinds[k] == OTHER_PATCH;
    const float mean_b = other ? total[BLOCK].sum : mean.sum, square_b = other ? total[2 * BLOCK].sum : square.sum;
    scores.set(k, threadIdx.x, pearson(mean.sum, mean_b, square.sum, square_b, total[0].sum, flat, redo));
  }
  return redo && scores.hold(threadIdx.x);
}

// The same over the samples that are known on both sides; NaN where they are less than half of the patch.
// sums (n_operations, 7, BLOCK) Total: of both parts of the weights, a, b, a a, b b and a b.
template <class T>
__device__ bool score_known(
    const Plan<T>& plan, const T* region, const T* level, T* values, Total<T>* sums, float flat, const Scores& scores) {
  constexpr int pixels = Tile<T>::pixels, shares = Tile<T>::shares;
  const int pixel = threadIdx.x % pixels, share = threadIdx.x / pixels;
  for (int k = 0; k < 7 * plan.n_operations; ++k) sums[k * BLOCK + threadIdx.x] = {};
  for (int batch = 0; batch < plan.n_batches; ++batch) {
    const int* now = plan.batches + 2 * batch;
    __syncthreads();  // the values of the last batch have been read
    interpolate<T, true>(plan, region, level, now[0], now[2], values);
    __syncthreads();
    const T* mine = values + pixel;
    for (int run = now[1]; run < now[3]; ++run) {
      T coarse = 0, rest = 0, a = 0, b = 0, aa = 0, bb = 0, ab = 0;
      for (int k = plan.runs[2 * run] + share; k < plan.runs[2 * run + 2]; k += shares) {
        const Pair<T> pair = plan.pairs[k];
        const T here = mine[pair.one * pixels], there = mine[pair.other * pixels];
        if (isnan(here) || isnan(there)) continue;
        const T weight = pair.weight();
        coarse += pair.coarse;
        rest += pair.rest;
        a += weight * here;
        b += weight * there;
        aa += weight * here * here;
        bb += weight * there * there;
        ab += weight * here * there;
      }
      Total<T>* total = sums + 7 * plan.runs[2 * run + 1] * BLOCK + threadIdx.x;
      total[0].add(coarse);
      total[BLOCK].add(rest);
      total[2 * BLOCK].add(a);
      total[3 * BLOCK].add(b);
      total[4 * BLOCK].add(aa);
      total[5 * BLOCK].add(bb);
      total[6 * BLOCK].add(ab);
    }
  }
  __syncthreads();  // the sums of a pixel's other threads stand
  bool redo = false;
  for (int operation = share; operation < plan.n_operations; operation += shares) {
    T sum[7];
#pragma unroll
    for (int q = 0; q < 7; ++q) {
      sum[q] = 0;
      for (int k = 0; k < shares; ++k) sum[q] += sums[(7 * operation + q) * BLOCK + k * pixels + pixel].sum;
    }
    if ((sum[0] - T(0.5)) + sum[1] < -ROUNDING) {
      scores.set(operation, pixel, NOT_A_NUMBER);
      continue;
    }
    const T part = 1 / (sum[0] + sum[1]);
    T a = sum[2] * part, b = sum[3] * part, aa = sum[4] * part, bb = sum[5] * part;
    if (plan.kinds[operation] == INVOLUTION) {  // a pair stands for (a, b) and (b, a)
      a = b = (a + b) / 2;
      aa = bb = (aa + bb) / 2;
    }
    scores.set(operation, pixel, pearson(a, b, aa, bb, sum[6] * part, flat, redo));
  }
  return redo && scores.hold(pixel);
}

// Goes through the tiles of which the state is `wanted`, and leaves what is to be done next.
// scratch (blocks, scratch_size) T: the sums, then the region if it is not in shared memory.
template <class T, bool complete_only>
__device__ void score_tiles(
    const Coefficients& coefficients, const Plan<T>& plan, int most_samples, int region_is_shared, float flat,
    T* shared, T* scratch, int scratch_size, int* states, float* out) {
  constexpr int rows = Tile<T>::rows, pixels = Tile<T>::pixels, coarse = 32 / sizeof(float);
  const int across = (coefficients.width + COLS - 1) / COLS, down = (coefficients.height + rows - 1) / rows;
  T *values = shared, *level = values + most_samples * pixels;
  T* mine = scratch + (size_t)blockIdx.x * scratch_size;
  Total<T>* sums = reinterpret_cast<Total<T>*>(mine);
  T* region = region_is_shared ? level + pixels : mine + 2 * (complete_only ? 3 : 7) * plan.n_operations * BLOCK;
  for (int tile = blockIdx.x; tile < across * down; tile += gridDim.x) {
    const int row = tile / across * rows, col = tile % across * COLS;
    int* state = states + row / coarse * across + tile % across;
    if (!complete_only && *state != (sizeof(T) == sizeof(float) ? MASKED : CAREFUL)) continue;
    const bool complete = copy_region(coefficients, plan, row - plan.reach, col - plan.reach, region);
    if (complete_only && !complete) {
      if (threadIdx.x == 0) *state = MASKED;
      continue;
    }
    if (threadIdx.x < pixels) level[threadIdx.x] = level_of_patch(plan, region, threadIdx.x);
    const Scores scores{out, coefficients.height, coefficients.width, row, col};
    bool redo;
    if constexpr (complete_only)
      redo = score_complete(plan, region, level, values, sums, flat, scores);
    else
      redo = score_known(plan, region, level, values, sums, flat, scores);
    redo = __syncthreads_or(redo);
    if (sizeof(T) == sizeof(float) && threadIdx.x == 0) *state = redo ? CAREFUL : DONE;
  }
}

// Scores of every operation at every pixel; a Plan<T> above says what the arrays of the plan are.
// states (tiles of 8 x COLS pixels) int; out (n_operations, height, width) float.
// Launch: grid at most one block per tile, block BLOCK, scratch as `score_tiles` says, and Ts of shared memory:
// (most_samples + 1) * pixels of a tile, and the region (depth * pitch of the plan) if it fits.
// Three kernels, one after the other: what is complete, what is not, and what needs double precision. Three blocks
// per multiprocessor are asked for: for more of them the compiler spills registers, and fewer are slow to wait on.
#define POLAR_KERNEL(name, T, complete_only)                                                                       \
  extern "C" __global__ void __launch_bounds__(BLOCK, 3) name(                                                     \
      const double* coefficients, int height, int width, const int* corners, const T* splines, const T* own,      \
      const int* pairs, const int* batches, const int* runs, const int* kinds, int n_samples, int n_batches,       \
      int n_operations, int reach, int most_samples, int region_is_shared, float flat, T* scratch,                 \
      int scratch_size, int* states, float* out) {                                                                 \
    SHARED_MEMORY(double, shared);                                                                                 \
    const Plan<T> plan{corners, reinterpret_cast<const Four<T>*>(splines), own,                                    \
                       reinterpret_cast<const Pair<T>*>(pairs), batches, runs, kinds, n_samples, n_batches,        \
                       n_operations, reach};                                                                       \
    score_tiles<T, complete_only>({coefficients, height, width}, plan, most_samples, region_is_shared, flat,       \
                                  reinterpret_cast<T*>(shared), scratch, scratch_size, states, out);               \
  }
POLAR_KERNEL(polar_scores, float, true)
POLAR_KERNEL(masked_polar_scores, float, false)
POLAR_KERNEL(careful_polar_scores, double, false)
