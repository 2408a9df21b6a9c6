// Translation symmetry: Pearson's coefficient of the patch at each grid point with its copy at each shift.
// Launchers and shapes: engines/cuda.py. Twin: engines/cpu.py. Reference: tests/naive.py.

// Where the scores are taken: grid point (i, j) is the pixel (first_row + i * stride, first_col + j * stride).
struct Grid {
  int first_row, first_col, stride, rows, cols;
};

struct Patch {
  int radius_row, radius_col;
  __device__ int rows() const { return 2 * radius_row + 1; }
  __device__ int cols() const { return 2 * radius_col + 1; }
  __device__ int size() const { return rows() * cols(); }
};

// The definition.
// shifts (n_shifts, 2) int, (d_row, d_col); out (n_shifts, rows, cols) float
// Launch: grid (cols, rows), block BLOCK: a block per grid point, its threads take the shifts in turn.
extern "C" __global__ void __launch_bounds__(BLOCK) direct_scores(
    const float* pixels, int height, int width, int first_row, int first_col, int stride, int rows, int cols,
    int radius_row, int radius_col, const int* shifts, int n_shifts, float flat, float* out) {
  const Image image{pixels, height, width};
  const Patch patch{radius_row, radius_col};
  const int row = first_row + blockIdx.y * stride - radius_row, col = first_col + blockIdx.x * stride - radius_col;
  bool complete;
  const float level = level_of(image, row, col, patch.rows(), patch.cols(), complete);
  for (int k = threadIdx.x; k < n_shifts; k += BLOCK) {
    const int d = shifts[2 * k], e = shifts[2 * k + 1];
    PairSums sums;
    for (int y = row; y < row + patch.rows(); ++y)
      for (int x = col; x < col + patch.cols(); ++x) sums.add(image.at(y, x) - level, image.at(y + d, x + e) - level);
    out[((size_t)k * rows + blockIdx.y) * cols + blockIdx.x] = sums.pearson(patch.size(), flat, d == 0 && e == 0);
  }
}

// Mean and 1 / (standard deviation * sqrt(n)) of whole patches: what the box sums need to become scores.
// Positions (row0 + i * step_row, col0 + j * step_col), i < rows, j < cols; mean, scale (rows, cols) float, the
// scale 0 where a patch is flat, both 0 where it is not complete.
// Launch: grid (ceil(cols / TILE_COLS), rows), block BLOCK, 2 * span doubles of shared memory,
// span = (TILE_COLS - 1) * step_col + patch columns.
extern "C" __global__ void __launch_bounds__(BLOCK) patch_statistics(
    const float* pixels, int height, int width, int row0, int col0, int step_row, int step_col, int rows, int cols,
    int radius_row, int radius_col, float flat, float* mean, float* scale) {
  SHARED_MEMORY(double, columns);
  const Image image{pixels, height, width};
  const Patch patch{radius_row, radius_col};
  const int first = blockIdx.x * TILE_COLS, n_cols = min(TILE_COLS, cols - first);
  const int span = (n_cols - 1) * step_col + patch.cols();
  const int row = row0 + blockIdx.y * step_row - radius_row, col = col0 + first * step_col - radius_col;
  bool complete;
  const float level = level_of(image, row, col, patch.rows(), span, complete);
  for (int x = threadIdx.x; x < span; x += BLOCK) {
    double sum = 0.0, squares = 0.0;
    for (int y = 0; y < patch.rows(); ++y) {
      const double value = image.at(row + y, col + x) - level;
      sum += value;
      squares += value * value;
    }
    columns[x] = sum;
    columns[span + x] = squares;
  }
  __syncthreads();
  const double part = 1.0 / patch.size();
  for (int j = threadIdx.x; j < n_cols; j += BLOCK) {
    double sum = 0.0, squares = 0.0;
    for (int x = 0; x < patch.cols(); ++x) {
      sum += columns[j * step_col + x];
      squares += columns[span + j * step_col + x];
    }
    const double m = sum * part;
    const float variance = (float)(squares * part - m * m);
    const size_t at = (size_t)blockIdx.y * cols + first + j;
    mean[at] = isnan(sum) ? 0.0f : (float)(m + level);
    scale[at] = variance > flat ? rsqrtf(patch.size() * variance) : 0.0f;  // a NaN is not larger
  }
}

// Box sums: for one shift the sums over all patches are a box filter of the product image; sums of columns first, then
// sums of those. A tile is TILE_ROWS x TILE_COLS grid points; what its patches cover is its region.
struct Tile {
  int i0, j0, rows, cols;  // grid points
  int row, col, depth, span;  // region, pixels

  __device__ Tile(const Grid& grid, const Patch& patch)
      : i0(blockIdx.y * TILE_ROWS), j0(blockIdx.x * TILE_COLS), rows(min(TILE_ROWS, grid.rows - i0)),
        cols(min(TILE_COLS, grid.cols - j0)), row(grid.first_row + i0 * grid.stride - patch.radius_row),
        col(grid.first_col + j0 * grid.stride - patch.radius_col), depth((rows - 1) * grid.stride + patch.rows()),
        span((cols - 1) * grid.stride + patch.cols()) {}

  // Whether all pixels within reach of the region are valid; every block of the tile must come to the same answer.
  __device__ bool complete(const Image& image, int masked, int reach_row, int reach_col) const {
    if (!masked) return true;
    bool found;
    level_of(image, row - reach_row, col - reach_col, depth + 2 * reach_row, span + 2 * reach_col, found);
    return found;
  }
  // Whether box_scores does a shift; masked_box_scores does the others.
  __device__ bool whole(const Image& image, bool complete, int d, int e) const {
    return complete && image.holds(row, col, depth, span) && image.holds(row + d, col + e, depth, span);
  }
};

// Sums of `length` neighbouring values from r * step on, r < R, of which `count` are wanted: (R - 1) * step <= length.
// add(at, sum) adds a value to a sum, and is asked to do so once. Nothing is subtracted, so that no rounding comes in
// from outside of a window.
template <int R, class Sum, class Add>
__device__ void window_sums(const Add& add, int step, int length, int count, Sum (&sum)[R]) {
  int at = 0;
#pragma unroll
  for (int r = 0; r < R; ++r) {  // from the beginning of a window to that of the next; the last: what all share
    const int end = r + 1 < R ? (r + 1) * step : length;
    sum[r] = Sum{};
#pragma unroll(sizeof(Sum) > sizeof(float) ? 1 : 2)
    for (; at < end; ++at) add(at, sum[r]);
  }
#pragma unroll
  for (int r = R - 2; r >= 0; --r) sum[r] += sum[r + 1];
  Sum beyond{};  // the end of the first window
#pragma unroll
  for (int r = 1; r < R; ++r) {
    if (r < count)
#pragma unroll(sizeof(Sum) > sizeof(float) ? 1 : 2)
      for (const int end = length + r * step; at < end; ++at) add(at, beyond);
    sum[r] += beyond;
  }
}

// Calls work(Windows<R>()) for the largest R at most MOST, a power of two, of which R windows share a value.
template <int R>
struct Windows {
  static constexpr int count = R;
};
template <int MOST, class Work>
__device__ void for_windows(int step, int length, const Work& work) {
  if constexpr (MOST > 1) {
    if ((MOST - 1) * step > length) return for_windows<MOST / 2>(step, length, work);
  }
  work(Windows<MOST>());
}

// The shifts of which all pixels are valid.
// mean, scale (stat_rows, stat_cols) float from patch_statistics, their position (0, 0) being the grid's first
// point less reach; shifts (n_shifts, 2) int; out (n_shifts, rows, cols) float.
// Launch: grid (ceil(cols / TILE_COLS), ceil(rows / TILE_ROWS), number of parts of the shifts), block BLOCK,
// TILE_ROWS * (pitch + TILE_COLS) floats of shared memory, pitch = (TILE_COLS - 1) * stride + patch columns, or one
// more, so that it is odd: neighbouring rows lie in different banks.
extern "C" __global__ void __launch_bounds__(BLOCK, 3) box_scores(
    const float* pixels, int height, int width, int first_row, int first_col, int stride, int rows, int cols,
    int radius_row, int radius_col, int reach_row, int reach_col, int step_row, int step_col, const float* mean,
    const float* scale, int stat_cols, const int* shifts, int n_shifts, int masked, float* out) {
  SHARED_MEMORY(float, column_sums);
  const Image image{pixels, height, width};
  const Patch patch{radius_row, radius_col};
  const Tile tile({first_row, first_col, stride, rows, cols}, patch);
  const int pitch = ((TILE_COLS - 1) * stride + patch.cols()) | 1;
  float* sums = column_sums + TILE_ROWS * pitch;
  bool every;
  const float level = level_of(image, tile.row, tile.col, tile.depth, tile.span, every);
  const bool complete = tile.complete(image, masked, reach_row, reach_col);

  for (int k = blockIdx.z; k < n_shifts; k += gridDim.z) {
    const int d = shifts[2 * k], e = shifts[2 * k + 1];
    if (!tile.whole(image, complete, d, e)) continue;
    // a thread takes a column, and as many patches below each other as share its products
    for_windows<TILE_ROWS>(stride, patch.rows(), [&](auto windows) {
      constexpr int R = decltype(windows)::count;
      for (int item = threadIdx.x; item < (TILE_ROWS / R) * tile.span; item += BLOCK) {
        const int i = item / tile.span * R, x = item % tile.span;
        if (i >= tile.rows) break;
        const float* a = pixels + (size_t)(tile.row + i * stride) * width + tile.col + x;
        const float* b = a + (ptrdiff_t)d * width + e;
        float sum[R];
        window_sums<R>(
            [&](int y, float& to) {
              to += (__ldg(a + (size_t)y * width) - level) * (__ldg(b + (size_t)y * width) - level);
            },
            stride, patch.rows(), tile.rows - i, sum);
#pragma unroll
        for (int r = 0; r < R; ++r) column_sums[(i + r) * pitch + x] = sum[r];
      }
    });
    __syncthreads();
    // then a row, and patches beside each other: lanes of a warp in different rows, for their banks
    for_windows<TILE_COLS < 8 ? TILE_COLS : 8>(stride, patch.cols(), [&](auto windows) {
      constexpr int R = decltype(windows)::count;
      for (int item = threadIdx.x; item < TILE_ROWS * (TILE_COLS / R); item += BLOCK) {
        const int i = item % TILE_ROWS, j = item / TILE_ROWS * R;
        if (i >= tile.rows || j >= tile.cols) continue;
        const float* line = column_sums + i * pitch + j * stride;
        float sum[R];
        window_sums<R>([&](int x, float& to) { to += line[x]; }, stride, patch.cols(), tile.cols - j, sum);
#pragma unroll
        for (int r = 0; r < R; ++r) sums[i * TILE_COLS + j + r] = sum[r];
      }
    });
    __syncthreads();
    for (int item = threadIdx.x; item < TILE_ROWS * TILE_COLS; item += BLOCK) {
      const int i = item / TILE_COLS, j = item % TILE_COLS;
      if (i >= tile.rows || j >= tile.cols) continue;
      const int y = (tile.i0 + i) * stride + reach_row, x = (tile.j0 + j) * stride + reach_col;
      const size_t here = (size_t)(y / step_row) * stat_cols + x / step_col;
      const size_t there = (size_t)((y + d) / step_row) * stat_cols + (x + e) / step_col;
      const float norm = scale[here] * scale[there];
      float r = (float)(sums[item] - (double)patch.size() * (mean[here] - level) * (mean[there] - level)) * norm;
      r = d == 0 && e == 0 ? (norm > 0.0f ? 1.0f : 0.0f) : fminf(1.0f, fmaxf(-1.0f, r));
      out[((size_t)k * rows + tile.i0 + i) * cols + tile.j0 + j] = r;
    }
  }
}

// The other shifts: all six sums over the pixels that are valid on both sides, MASKED_ROWS rows of a tile at a time.
// Launch: as box_scores, with 6 * MASKED_ROWS * span doubles of shared memory, span = (TILE_COLS - 1) * stride + patch
// columns. Fewer blocks per multiprocessor are asked for, so that the compiler spills no register.
constexpr int MASKED_ROWS = TILE_ROWS < 4 ? TILE_ROWS : 4;

extern "C" __global__ void __launch_bounds__(BLOCK, 2) masked_box_scores(
    const float* pixels, int height, int width, int first_row, int first_col, int stride, int rows, int cols,
    int radius_row, int radius_col, int reach_row, int reach_col, const int* shifts, int n_shifts, int masked,
    float flat, float* out) {
  SHARED_MEMORY(double, columns);
  const Image image{pixels, height, width};
  const Patch patch{radius_row, radius_col};
  const Tile tile({first_row, first_col, stride, rows, cols}, patch);
  const int span = tile.span, wide = 2 * reach_col + span, deep = 2 * reach_row + tile.depth;
  if (!masked && image.holds(tile.row - reach_row, tile.col - reach_col, deep, wide)) return;  // as most tiles are
  const bool complete = tile.complete(image, masked, reach_row, reach_col);
  bool every;
  const float level = level_of(image, tile.row, tile.col, tile.depth, span, every);

  for (int k = blockIdx.z; k < n_shifts; k += gridDim.z) {
    const int d = shifts[2 * k], e = shifts[2 * k + 1];
    if (tile.whole(image, complete, d, e)) continue;
    for (int first = 0; first < tile.rows; first += MASKED_ROWS) {
      const int n_rows = min(MASKED_ROWS, tile.rows - first), n = n_rows * span;
      __syncthreads();  // the columns of the last rows have been read
      for_windows<MASKED_ROWS>(stride, patch.rows(), [&](auto windows) {
        constexpr int R = decltype(windows)::count;
        for (int item = threadIdx.x; item < (MASKED_ROWS / R) * span; item += BLOCK) {
          const int i = item / span * R, x = tile.col + item % span, y0 = tile.row + (first + i) * stride;
          if (i >= n_rows) break;
          PairSums sum[R];
          window_sums<R>(
              [&](int y, PairSums& to) { to.add(image.at(y0 + y, x) - level, image.at(y0 + y + d, x + e) - level); },
              stride, patch.rows(), n_rows - i, sum);
#pragma unroll
          for (int r = 0; r < R; ++r)
            if (i + r < n_rows) sum[r].store(columns + (i + r) * span + item % span, n);
        }
      });
      __syncthreads();
      for_windows<TILE_COLS < 4 ? TILE_COLS : 4>(stride, patch.cols(), [&](auto windows) {
        constexpr int R = decltype(windows)::count;
        for (int item = threadIdx.x; item < MASKED_ROWS * (TILE_COLS / R); item += BLOCK) {
          const int i = item % MASKED_ROWS, j = item / MASKED_ROWS * R;
          if (i >= n_rows || j >= tile.cols) continue;
          const double* line = columns + i * span + j * stride;
          float* to = out + ((size_t)k * rows + tile.i0 + first + i) * cols + tile.j0 + j;
          PairSums sum[R];
          window_sums<R>(
              [&](int x, PairSums& total) { total += PairSums::load(line + x, n); }, stride, patch.cols(),
              tile.cols - j, sum);
#pragma unroll
          for (int r = 0; r < R; ++r)
            if (j + r < tile.cols) to[r] = sum[r].pearson(patch.size(), flat, d == 0 && e == 0);
        }
      });
    }
  }
}

// The planes that the correlations of a grid point are made of, about the mean of its patch, 0 where invalid:
// 0-2: the patch, its square, its weights; 3-5: the same of the window that the shifts reach.
// points (n_points, 2) int: rows and columns; planes (6, n_points, fft_rows, fft_cols) double.
// Launch: grid n_points, block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) fft_gather(
    const float* pixels, int height, int width, const int* points, int n_points, int radius_row, int radius_col,
    int reach_row, int reach_col, int fft_rows, int fft_cols, double* planes) {
  const Image image{pixels, height, width};
  const Patch patch{radius_row, radius_col};
  const int row = points[2 * blockIdx.x] - radius_row, col = points[2 * blockIdx.x + 1] - radius_col;
  bool complete;
  const float level = level_of(image, row, col, patch.rows(), patch.cols(), complete);
  const size_t plane = (size_t)fft_rows * fft_cols;
  for (int k = threadIdx.x; k < fft_rows * fft_cols; k += BLOCK) {
    const int y = k / fft_cols, x = k % fft_cols;
    const bool in_patch = y < patch.rows() && x < patch.cols();
    const bool in_window = y < patch.rows() + 2 * reach_row && x < patch.cols() + 2 * reach_col;
    const float here = in_patch ? image.at(row + y, col + x) - level : NOT_A_NUMBER;
    const float there = in_window ? image.at(row - reach_row + y, col - reach_col + x) - level : NOT_A_NUMBER;
    double* to = planes + blockIdx.x * plane + k;
    const size_t next = n_points * plane;
    to[0] = isnan(here) ? 0.0 : here;
    to[next] = isnan(here) ? 0.0 : (double)here * here;
    to[2 * next] = isnan(here) ? 0.0 : 1.0;
    to[3 * next] = isnan(there) ? 0.0 : there;
    to[4 * next] = isnan(there) ? 0.0 : (double)there * there;
    to[5 * next] = isnan(there) ? 0.0 : 1.0;
  }
}

// Scores from the correlations of a batch of grid points.
// correlations (6, n_points, fft_rows, fft_cols) double: of products, pairs, a, b, a a, b b at every lag;
// out (n_shifts, n_grid) float, this batch from `begin` on.
// Launch: grid (ceil(n_shifts / BLOCK), n_points), block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) fft_finish(
    const double* correlations, int n_points, int fft_rows, int fft_cols, const int* shifts, int n_shifts, int reach_row,
    int reach_col, int patch_size, float flat, int begin, int n_grid, float* out) {
  const int k = blockIdx.x * BLOCK + threadIdx.x;
  if (k >= n_shifts) return;
  const int d = shifts[2 * k], e = shifts[2 * k + 1];
  const size_t next = (size_t)n_points * fft_rows * fft_cols;
  const double* at = correlations + ((size_t)blockIdx.y * fft_rows + d + reach_row) * fft_cols + e + reach_col;
  PairSums sums;
  sums.ab = at[0];
  sums.n = rint(at[next]);  // a count of pixels
  sums.a = at[2 * next];
  sums.b = at[3 * next];
  sums.aa = at[4 * next];
  sums.bb = at[5 * next];
  out[(size_t)k * n_grid + begin + blockIdx.y] = sums.pearson(patch_size, flat, d == 0 && e == 0);
}
