// Missing scores (NaN) take those of the opposite translation, else of the nearest grid point; in place.
// Launchers: engines/cuda.py. Twin: engines/cpu.py (fill_missing). Reference: tests/naive.py.
//
// Two operations that score the same patches from either end are a pair, (one, other); an operation without an
// opposite is a pair with itself. Once each has given the other what it has, both miss the same.

// Grid points that are known to miss nothing, and are not looked at: rows top .. bottom - 1, columns left .. right - 1.
struct Complete {
  int top, bottom, left, right;

  __device__ bool holds(int row, int col) const { return row >= top && row < bottom && col >= left && col < right; }
  // How many of (rows, cols) grid points are looked at, which one is the k-th of them, and which k a point is.
  __device__ int outside(int rows, int cols) const { return rows * cols - (bottom - top) * (right - left); }
  __device__ int place(int row, int col, int cols) const {
    if (row < top) return row * cols + col;
    if (row >= bottom) return row * cols + col - (bottom - top) * (right - left);
    return top * cols + (row - top) * (cols - (right - left)) + (col < left ? col : col - (right - left));
  }
  __device__ int point(int k, int cols) const {
    const int beside = cols - (right - left), sides = (bottom - top) * beside;
    if (k < top * cols) return k;  // above
    k -= top * cols;
    if (k >= sides) return bottom * cols + k - sides;  // below
    const int col = k % beside;
    return (top + k / beside) * cols + (col < left ? col : col + right - left);
  }
};

// The first step, and where the nearest score of a column is. A thread takes a column: down it, then up.
// scores (n_operations, rows, cols) float; pairs (n_pairs, 2) int; near (n_pairs, grid points looked at) int: the row of
// the nearest score in the column, of two the upper, -1 if there is none.
// Launch: grid (ceil(cols / BLOCK), n_pairs), block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) fill_from_opposite(
    float* scores, const int* pairs, int rows, int cols, int top, int bottom, int left, int right, int* near) {
  const int col = blockIdx.x * BLOCK + threadIdx.x;
  if (col >= cols) return;
  const Complete complete{top, bottom, left, right};
  const bool crosses = top < bottom && left <= col && col < right;
  const size_t points = (size_t)rows * cols;
  float *one = scores + pairs[2 * blockIdx.y] * points + col, *other = scores + pairs[2 * blockIdx.y + 1] * points + col;
  near += (size_t)blockIdx.y * complete.outside(rows, cols);
  int last = -1;
#pragma unroll 8
  for (int row = 0; row < rows; ++row) {
    if (crosses && row == top) {
      row = last = bottom - 1;
      continue;
    }
    const size_t at = (size_t)row * cols;
    const float a = one[at], b = other[at];
    if (isnan(a) && !isnan(b)) one[at] = b;
    if (isnan(b) && !isnan(a)) other[at] = a;
    if (!isnan(a) || !isnan(b)) last = row;
    near[complete.place(row, col, cols)] = last;
  }
  last = -1;
#pragma unroll 8
  for (int row = rows - 1; row >= 0; --row) {
    if (crosses && row == bottom - 1) {
      row = last = top;
      continue;
    }
    const int at = complete.place(row, col, cols), above = near[at];
    if (above == row) last = row;
    if (last >= 0 && (above < 0 || last - row < row - above)) near[at] = last;
  }
}

// The second step: what is still missing takes the nearest grid point's score, of equally near ones that of the
// smallest row, then column; 0 if there is none. It is the nearest of those that the columns on either side name;
// columns further off than the best of them need no look. Only what was missing is written, and only what was not
// is read, so that no filled score is anybody's neighbour.
// wanted (rows, cols) bool: the grid points to fill; the rest as above.
// Launch: grid (at most ceil(grid points looked at / BLOCK), n_pairs), block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) fill_from_nearest(
    float* scores, const int* pairs, const bool* wanted, int rows, int cols, int top, int bottom, int left, int right,
    const int* near) {
  const Complete complete{top, bottom, left, right};
  const size_t points = (size_t)rows * cols;
  float *one = scores + pairs[2 * blockIdx.y] * points, *other = scores + pairs[2 * blockIdx.y + 1] * points;
  near += (size_t)blockIdx.y * complete.outside(rows, cols);
  for (int k = blockIdx.x * BLOCK + threadIdx.x; k < complete.outside(rows, cols); k += gridDim.x * BLOCK) {
    const int point = complete.point(k, cols), i = point / cols, j = point % cols;
    if (near[k] == i || !wanted[point]) continue;
    long long best = -1;  // squared distance
    int best_row = 0, best_col = 0;
    for (int step = 0; step < cols && (best < 0 || (long long)step * step <= best); ++step) {
      for (int side = -1; side <= 1; side += 2) {
        const int x = j + side * step;
        if (x < 0 || x >= cols) continue;
        const int y = complete.holds(i, x) ? i : near[complete.place(i, x, cols)];
        if (y < 0) continue;
        const long long distance = (long long)(y - i) * (y - i) + (long long)step * step;
        const bool earlier = y < best_row || (y == best_row && x < best_col);
        if (best < 0 || distance < best || (distance == best && earlier)) {
          best = distance;
          best_row = y;
          best_col = x;
        }
      }
    }
    const size_t from = (size_t)best_row * cols + best_col;
    const float a = best < 0 ? 0.0f : one[from], b = best < 0 ? 0.0f : other[from];
    one[point] = a;
    other[point] = b;
  }
}
