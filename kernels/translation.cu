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

// Box sums: for one shift the sums over all patches are a box filter of the product image; column sums first,
// then sums of columns, so that a product serves every patch that holds it.
// mean, scale (stat_rows, stat_cols) float from patch_statistics, their position (0, 0) being the grid's first
// point less reach; shifts (n_shifts, 2) int; out (n_shifts, rows, cols) float.
// Launch: grid (ceil(cols / TILE_COLS), ceil(rows / TILE_ROWS), number of parts of the shifts), block BLOCK,
// 6 * TILE_ROWS * span doubles of shared memory, span = (TILE_COLS - 1) * stride + patch columns.
// One block per multiprocessor is asked for, so that the compiler spills no register to have more of them.
extern "C" __global__ void __launch_bounds__(BLOCK, 1) box_scores(
    const float* pixels, int height, int width, int first_row, int first_col, int stride, int rows, int cols,
    int radius_row, int radius_col, int reach_row, int reach_col, int step_row, int step_col, const float* mean,
    const float* scale, int stat_cols, const int* shifts, int n_shifts, int masked, float flat, float* out) {
  SHARED_MEMORY(double, columns);
  const Image image{pixels, height, width};
  const Patch patch{radius_row, radius_col};
  const int i0 = blockIdx.y * TILE_ROWS, j0 = blockIdx.x * TILE_COLS;
  const int n_rows = min(TILE_ROWS, rows - i0), n_cols = min(TILE_COLS, cols - j0);
  const int span = (n_cols - 1) * stride + patch.cols(), depth = (n_rows - 1) * stride + patch.rows();
  const int row = first_row + i0 * stride - radius_row, col = first_col + j0 * stride - radius_col;
  bool complete;
  const float level = level_of(image, row, col, depth, span, complete);
  if (masked) level_of(image, row - reach_row, col - reach_col, depth + 2 * reach_row, span + 2 * reach_col, complete);

  for (int k = blockIdx.z; k < n_shifts; k += gridDim.z) {
    const int d = shifts[2 * k], e = shifts[2 * k + 1];
    const bool same = d == 0 && e == 0;
    const bool whole = (complete || !masked) && image.holds(row, col, depth, span) &&
                       image.holds(row + d, col + e, depth, span);
    __syncthreads();  // the columns of the last shift have been read
    for (int item = threadIdx.x; item < n_rows * span; item += BLOCK) {
      const int y0 = row + item / span * stride, x = col + item % span;
      if (whole) {
        const float* a = pixels + (size_t)y0 * width + x;
        const float* b = a + (ptrdiff_t)d * width + e;
        float sum = 0.0f;
        for (int y = 0; y < patch.rows(); ++y) sum += (__ldg(a + (size_t)y * width) - level) * (__ldg(b + (size_t)y * width) - level);
        columns[item] = sum;
      } else {
        PairSums sums;
        for (int y = y0; y < y0 + patch.rows(); ++y) sums.add(image.at(y, x) - level, image.at(y + d, x + e) - level);
        const int n = n_rows * span;
        columns[item] = sums.ab;
        columns[item + n] = sums.n;
        columns[item + 2 * n] = sums.a;
        columns[item + 3 * n] = sums.b;
        columns[item + 4 * n] = sums.aa;
        columns[item + 5 * n] = sums.bb;
      }
    }
    __syncthreads();
    for (int item = threadIdx.x; item < n_rows * n_cols; item += BLOCK) {
      const int i = item / n_cols, j = item % n_cols;
      const double* line = columns + i * span + j * stride;
      float r;
      if (whole) {
        double products = 0.0;
        for (int x = 0; x < patch.cols(); ++x) products += line[x];
        const int y = (i0 + i) * stride + reach_row, x = (j0 + j) * stride + reach_col;
        const size_t here = (size_t)(y / step_row) * stat_cols + x / step_col;
        const size_t there = (size_t)((y + d) / step_row) * stat_cols + (x + e) / step_col;
        const float norm = scale[here] * scale[there];
        r = (float)(products - (double)patch.size() * (mean[here] - level) * (mean[there] - level)) * norm;
        r = same ? (norm > 0.0f ? 1.0f : 0.0f) : fminf(1.0f, fmaxf(-1.0f, r));
      } else {
        PairSums sums;
        const int n = n_rows * span;
        for (int x = 0; x < patch.cols(); ++x) {
          sums.ab += line[x];
          sums.n += line[x + n];
          sums.a += line[x + 2 * n];
          sums.b += line[x + 3 * n];
          sums.aa += line[x + 4 * n];
          sums.bb += line[x + 5 * n];
        }
        r = sums.pearson(patch.size(), flat, same);
      }
      out[((size_t)k * rows + i0 + i) * cols + j0 + j] = r;
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
