// Max-pooling: the largest scores in a moving window about each grid point, down the rows first, then along the
// columns, so that the cost is that of the window's sides and not of its area.
// Launchers: engines/cuda.py. Twin: engines/cpu.py (pool). Reference: tests/naive.py (pooled).
//
// Lists of any length without memory for them: scores are put in order (the largest first, of equals the first),
// and the next of a list is the first that comes after the last. NaN is a missing score and ends a list.

// The largest of the rows about each grid row, for every column.
// scores (n, height, width) float; out (n, n_max, rows, width) float.
// Launch: grid (ceil(width / BLOCK), at most rows, at most n), block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) pool_down(
    const float* scores, int n, int height, int width, int first, int stride, int rows, int radius, int n_max,
    float* out) {
  const int col = blockIdx.x * BLOCK + threadIdx.x;
  if (col >= width) return;
  for (int k = blockIdx.z; k < n; k += gridDim.z)
    for (int i = blockIdx.y; i < rows; i += gridDim.y) {
      const float* column = scores + (size_t)k * height * width + col;
      const int middle = first + i * stride, begin = max(0, middle - radius), end = min(height, middle + radius + 1);
      float last = NOT_A_NUMBER;
      int last_at = -1;
      bool more = true;
      for (int rank = 0; rank < n_max; ++rank) {
        float best = NOT_A_NUMBER;
        int best_at = -1;
        for (int at = more ? begin : end; at < end; ++at) {
          const float value = column[(size_t)at * width];
          const bool comes = rank == 0 || value < last || (value == last && at > last_at);
          if (comes && !isnan(value) && !(value <= best)) {
            best = value;
            best_at = at;
          }
        }
        out[(((size_t)k * n_max + rank) * rows + i) * width + col] = best;
        more = !isnan(best);
        last = best;
        last_at = best_at;
      }
    }
}

// The largest of the lists (falling, NaN at the end) about each grid column.
// lists (n, length, rows, width) float; out (n, n_max, rows, cols) float.
// Launch: grid (ceil(cols / BLOCK), at most rows, at most n), block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) pool_across(
    const float* lists, int n, int length, int rows, int width, int first, int stride, int cols, int radius, int n_max,
    float* out) {
  const int j = blockIdx.x * BLOCK + threadIdx.x;
  if (j >= cols) return;
  const size_t next = (size_t)rows * width;
  for (int k = blockIdx.z; k < n; k += gridDim.z)
    for (int i = blockIdx.y; i < rows; i += gridDim.y) {
      const float* line = lists + (size_t)k * length * next + (size_t)i * width;
      const int middle = first + j * stride, begin = max(0, middle - radius), end = min(width, middle + radius + 1);
      float last = NOT_A_NUMBER;
      int last_at = -1, last_place = -1;
      bool more = true;
      for (int rank = 0; rank < n_max; ++rank) {
        float best = NOT_A_NUMBER;
        int best_at = -1, best_place = -1;
        for (int at = more ? begin : end; at < end; ++at) {
          int place = 0;  // how many of this list are not after the last
          for (int beyond = rank == 0 ? 0 : length; place < beyond;) {
            const int half = (place + beyond) / 2;
            const float value = line[half * next + at];
            const bool taken = value > last || (value == last && (at < last_at || (at == last_at && half <= last_place)));
            if (taken)
              place = half + 1;
            else
              beyond = half;
          }
          if (place == length) continue;
          const float value = line[place * next + at];
          if (!isnan(value) && !(value <= best)) {
            best = value;
            best_at = at;
            best_place = place;
          }
        }
        out[(((size_t)k * n_max + rank) * rows + i) * cols + j] = best;
        more = !isnan(best);
        last = best;
        last_at = best_at;
        last_place = best_place;
      }
    }
}
