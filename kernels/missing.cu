// Missing scores (NaN) take those of the opposite translation, else of the nearest grid point.
// Launchers: engines/cuda.py. Twin: engines/cpu.py (fill_missing). Reference: tests/naive.py.

// scores, filled (n_operations, rows, cols) float; opposite (n_operations) int, -1 where there is none
// Launch: grid ceil(n_operations * rows * cols / BLOCK), block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) fill_from_opposite(
    const float* scores, const int* opposite, int n_operations, int points, float* filled) {
  const size_t at = (size_t)blockIdx.x * BLOCK + threadIdx.x;
  if (at >= (size_t)n_operations * points) return;
  const int k = (int)(at / points), other = opposite[k];
  float score = scores[at];
  if (isnan(score) && other >= 0) score = scores[(size_t)other * points + at % points];
  filled[at] = score;
}

// The nearest grid point of the same operation that has a score, ties to the smallest row, then column; 0 if
// there is none. wanted (rows, cols) bool: the grid points to fill.
// Launch: grid ceil(n_operations * rows * cols / BLOCK), block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) fill_from_nearest(
    const float* scores, const bool* wanted, int n_operations, int rows, int cols, float* filled) {
  const size_t at = (size_t)blockIdx.x * BLOCK + threadIdx.x;
  const int points = rows * cols;
  if (at >= (size_t)n_operations * points) return;
  const int point = (int)(at % points), i = point / cols, j = point % cols;
  float score = scores[at];
  if (isnan(score) && wanted[point]) {
    const float* map = scores + at - point;
    long long best = -1;
    int best_row = 0, best_col = 0;
    // square rings outwards; one further out can still be nearer than a corner
    for (int ring = 1; ring < max(rows, cols) && (best < 0 || (long long)ring * ring <= best); ++ring) {
      for (int y = max(0, i - ring); y <= min(rows - 1, i + ring); ++y) {
        const int step = abs(y - i) == ring ? 1 : 2 * ring;
        for (int x = j - ring; x <= j + ring; x += step) {
          if (x < 0 || x >= cols || isnan(map[y * cols + x])) continue;
          const long long distance = (long long)(y - i) * (y - i) + (long long)(x - j) * (x - j);
          const bool earlier = y < best_row || (y == best_row && x < best_col);
          if (best < 0 || distance < best || (distance == best && earlier)) {
            best = distance;
            best_row = y;
            best_col = x;
          }
        }
      }
    }
    score = best >= 0 ? map[best_row * cols + best_col] : 0.0f;
  }
  filled[at] = score;
}
