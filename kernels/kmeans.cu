// Lloyd's iteration from several starts side by side: each sample goes to its nearest centre, each centre to the mean
// of its samples. No start waits for another, and none for the host: one that has ended is passed over.
// Launcher: engines/cuda.py (lloyd). Twin: engines/cpu.py (lloyd). Reference: tests/naive.py.
//
// samples (n_features, n_samples) float; centers (n_starts, n_clusters, n_features) float;
// state (n_starts, 2) int: whether the start has ended, iterations so far.

// The nearest centre of a sample, of equally near ones the first, and its squared distance.
__device__ inline int nearest_center(
    const float* sample, int n_samples, int n_features, const float* centers, int n_clusters, float& distance) {
  int nearest = 0;
  for (int k = 0; k < n_clusters; ++k) {
    float sum = 0.0f;
    for (int f = 0; f < n_features; ++f) {
      const float apart = sample[(size_t)f * n_samples] - __ldg(centers + k * n_features + f);
      sum += apart * apart;
    }
    if (k == 0 || sum < distance) {
      distance = sum;
      nearest = k;
    }
  }
  return nearest;
}

// What the samples of each cluster come to, block by block: their features, their number (`what` n_features) and
// their squared distances (n_features + 1). Each asks for the nearest centre again: that is cheaper than to keep it.
// sums (n_starts, n_features + 2, n_clusters, blocks) float; `again` also where a start has ended
// Launch: grid (blocks, n_features + 2, n_starts), block BLOCK, n_clusters * BLOCK floats of shared memory.
extern "C" __global__ void __launch_bounds__(BLOCK) lloyd_sums(
    const float* samples, int n_samples, int n_features, const float* centers, int n_clusters, const int* state,
    int again, float* sums) {
  SHARED_MEMORY(float, own);
  const int start = blockIdx.z, what = blockIdx.y;
  if (state[2 * start] && !again) return;
  for (int k = 0; k < n_clusters; ++k) own[k * BLOCK + threadIdx.x] = 0.0f;
  centers += (size_t)start * n_clusters * n_features;
  for (int i = blockIdx.x * BLOCK + threadIdx.x; i < n_samples; i += gridDim.x * BLOCK) {
    float distance = 0.0f;
    const int k = nearest_center(samples + i, n_samples, n_features, centers, n_clusters, distance);
    float value = distance;
    if (what < n_features) value = samples[(size_t)what * n_samples + i];
    if (what == n_features) value = 1.0f;
    own[k * BLOCK + threadIdx.x] += value;
  }
  for (int k = 0; k < n_clusters; ++k) {
    const float total = block_sum(own[k * BLOCK + threadIdx.x]);
    if (threadIdx.x == 0) sums[((start * gridDim.y + what) * n_clusters + k) * gridDim.x + blockIdx.x] = total;
  }
}

// The centres go to the means; one without samples stays. A start ends where the sum of squared moves is at most
// `threshold` (1) double, or after max_iter iterations.
// Launch: grid n_starts, block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) lloyd_centers(
    const float* sums, int n_blocks, int n_features, int n_clusters, const double* threshold, int max_iter,
    float* centers, int* state) {
  const int start = blockIdx.x;
  if (state[2 * start]) return;
  sums += (size_t)start * (n_features + 2) * n_clusters * n_blocks;
  centers += (size_t)start * n_clusters * n_features;
  float moved = 0.0f;
  for (int item = threadIdx.x; item < n_clusters * n_features; item += BLOCK) {
    const int k = item / n_features, f = item % n_features;
    double count = 0.0, total = 0.0;
    for (int b = 0; b < n_blocks; ++b) {
      count += sums[(n_features * n_clusters + k) * n_blocks + b];
      total += sums[(f * n_clusters + k) * n_blocks + b];
    }
    if (count == 0.0) continue;
    const float mean = (float)(total / count), step = mean - centers[item];
    centers[item] = mean;
    moved += step * step;
  }
  moved = block_sum(moved);
  if (threadIdx.x == 0) {
    state[2 * start + 1] += 1;
    state[2 * start] = moved <= *threshold || state[2 * start + 1] >= max_iter;
  }
}
