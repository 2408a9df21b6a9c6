// An image about its mean, with variance 1. Three passes and no visit to the host, so that a graph can hold them.
// Launcher: engines/cuda.py (normalise). Twin: engines/cpu.py.
//
// Squares are taken of what is at most 1, and sums of what the level of one pixel has been taken from: neither a
// small contrast on a high level nor numbers near the ends of double get lost.

// What a block found among its pixels, then what all blocks did: sum and extremes about the level, number of
// pixels that count, and of those that should but are not finite.
struct Moments {
  double sum, low, high, count, broken;

  __device__ void add(const Moments& other) {
    sum += other.sum;
    low = fmin(low, other.low);
    high = fmax(high, other.high);
    count += other.count;
    broken += other.broken;
  }
  __device__ double mean() const { return count > 0.0 ? sum / count : 0.0; }
  __device__ double largest() const { return fmax(high - mean(), mean() - low); }
};

// The values of all threads put together in a tree: the same bits each time.
__device__ inline Moments all_moments(const Moments& own) {
  __shared__ Moments part[BLOCK];
  __syncthreads();
  part[threadIdx.x] = own;
  for (int half = BLOCK / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) part[threadIdx.x].add(part[threadIdx.x + half]);
  }
  __syncthreads();
  return part[0];
}

__device__ inline double sum_of_all(double own) {
  __shared__ double part[BLOCK];
  __syncthreads();
  part[threadIdx.x] = own;
  for (int half = BLOCK / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
  }
  __syncthreads();
  return part[0];
}

__device__ inline Moments nothing() { return Moments{0.0, 0.0, 0.0, 0.0, 0.0}; }

// The moments of a whole image from those of its parts.
// moments (n_parts, 5) double, n_parts at most BLOCK
__device__ inline Moments moments_of_parts(const double* moments, int n_parts) {
  Moments own = nothing();
  if (threadIdx.x < n_parts) {
    const double* from = moments + 5 * threadIdx.x;
    own = Moments{from[0], from[1], from[2], from[3], from[4]};
  }
  return all_moments(own);
}

// image (n_pixels) double; valid (n_pixels) bool; reference: the place of a valid pixel; moments (blocks, 5) double
// Launch: grid at most BLOCK, block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) normalise_moments(
    const double* image, const bool* valid, const long long* reference, int n_pixels, double* moments) {
  const double level = image[*reference];
  Moments own = nothing();
  for (int k = blockIdx.x * BLOCK + threadIdx.x; k < n_pixels; k += gridDim.x * BLOCK) {
    if (!valid[k]) continue;
    if (!isfinite(image[k])) {
      own.broken += 1.0;
      continue;
    }
    const double value = image[k] - level;
    own.add(Moments{value, value, value, 1.0, 0.0});  // about the level of a pixel that counts: the extremes hold 0
  }
  const Moments all = all_moments(own);
  if (threadIdx.x == 0) {
    double* to = moments + 5 * blockIdx.x;
    to[0] = all.sum;
    to[1] = all.low;
    to[2] = all.high;
    to[3] = all.count;
    to[4] = all.broken;
  }
}

// squares (blocks) double: of the pixels about their mean, in units of the largest
// Launch: as normalise_moments, with as many blocks.
extern "C" __global__ void __launch_bounds__(BLOCK) normalise_squares(
    const double* image, const bool* valid, const long long* reference, int n_pixels, const double* moments,
    double* squares) {
  const Moments all = moments_of_parts(moments, gridDim.x);
  const double level = image[*reference], mean = all.mean(), largest = all.largest();
  const double unit = largest > 0.0 ? largest : 1.0;
  double own = 0.0;
  for (int k = blockIdx.x * BLOCK + threadIdx.x; k < n_pixels; k += gridDim.x * BLOCK) {
    if (!valid[k] || !isfinite(image[k])) continue;
    const double value = (image[k] - level - mean) / unit;
    own += value * value;
  }
  own = sum_of_all(own);
  if (threadIdx.x == 0) squares[blockIdx.x] = own;
}

// hole: what a pixel becomes that does not count; pixels (n_pixels) float; state (2) double: how many pixels should
// count but are not finite, and the largest distance from the mean, 0 of a constant image
// Launch: as normalise_moments, with as many blocks.
extern "C" __global__ void __launch_bounds__(BLOCK) normalise_pixels(
    const double* image, const bool* valid, const long long* reference, int n_pixels, const double* moments,
    const double* squares, float hole, float* pixels, double* state) {
  const Moments all = moments_of_parts(moments, gridDim.x);
  const double level = image[*reference], mean = all.mean(), largest = all.largest();
  const double unit = largest > 0.0 ? largest : 1.0;
  const double total = sum_of_all(threadIdx.x < gridDim.x ? squares[threadIdx.x] : 0.0);
  const double deviation = all.count > 0.0 ? sqrt(total / all.count) : 0.0;
  const double scale = deviation > 0.0 ? 1.0 / deviation : 0.0;
  for (int k = blockIdx.x * BLOCK + threadIdx.x; k < n_pixels; k += gridDim.x * BLOCK)
    pixels[k] = valid[k] && isfinite(image[k]) ? (float)((image[k] - level - mean) / unit * scale) : hole;
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    state[0] = all.broken;
    state[1] = largest;
  }
}
