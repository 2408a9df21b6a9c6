// Missing scores (NaN) take those of the opposite translation, else of the nearest grid point.
// Launchers: engines/cuda.py. Twin: engines/cpu.py (fill_missing). Reference: tests/naive.py.

// scores, filled (n_operations, rows, cols) float; opposite (n_operations) int, -1 where there is none
// Launch: grid (n_operations, at most ceil(rows * cols / BLOCK)), block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) fill_from_opposite(
    const float* scores, const int* opposite, int points, float* filled) {
  const int other = opposite[blockIdx.x];
  for (int point = blockIdx.y * BLOCK + threadIdx.x; point < points; point += gridDim.y * BLOCK) {
    const size_t at = (size_t)blockIdx.x * points + point;
    float score = scores[at];
    if (isnan(score) && other >= 0) score = scores[(size_t)other * points + point];
    filled[at] = score;
  }
}

// The score of the grid point nearest to (i, j) that has one, ties to the smallest row, then column; 0 if there is
// none. map (rows, cols) float.
__device__ inline float nearest_score(const float* map, int rows, int cols, int i, int j) {
  int best = -1, best_row = 0, best_col = 0;  // squared distances: a grid has less than 2^15 rows and columns
  // square rings outwards; one further out can still be nearer than a corner
  for (int ring = 1; ring < max(rows, cols) && (best < 0 || ring * ring <= best); ++ring) {
    for (int y = max(0, i - ring); y <= min(rows - 1, i + ring); ++y) {
      const int step = abs(y - i) == ring ? 1 : 2 * ring;
      for (int x = j - ring; x <= j + ring; x += step) {
        if (x < 0 || x >= cols || isnan(map[y * cols + x])) continue;
        const int distance = (y - i) * (y - i) + (x - j) * (x - j);
        const bool earlier = y < best_row || (y == best_row && x < best_col);
        if (best < 0 || distance < best || (distance == best && earlier)) {
          best = distance;
          best_row = y;
          best_col = x;
        }
      }
    }
  }
  return best >= 0 ? map[best_row * cols + best_col] : 0.0f;
}

// What is still missing takes the nearest grid point's. wanted (rows, cols) bool: the grid points to fill.
// Launch: grid (n_operations, at most ceil(rows * cols / BLOCK)), block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) fill_from_nearest(
    const float* scores, const bool* wanted, int rows, int cols, float* filled) {
  const size_t begin = (size_t)blockIdx.x * rows * cols;
  for (int point = blockIdx.y * BLOCK + threadIdx.x; point < rows * cols; point += gridDim.y * BLOCK) {
    float score = scores[begin + point];
    if (isnan(score) && wanted[point]) score = nearest_score(scores + begin, rows, cols, point / cols, point % cols);
    filled[begin + point] = score;
  }
}
