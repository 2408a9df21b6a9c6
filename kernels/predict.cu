// From an image to the patterns of its grid points, by translations: no score is ever written.
// Launchers: engines/_cuda_predict.py. Twin: engines/cpu.py (label_points). Plan: gpuseg/prediction.py.
// Reference: tests/naive.py.
//
// A block scores the grid points of a tile by one pair of opposite translations after the other, and adds each score
// to the components of its grid point at once. Scores that a pair does not have (at the border, at a mask) come from
// other grid points: where from is planned on the host, and `project_missing` adds them afterwards.

// Sums of products over the patch rows of each grid row, for one column of pixels of a tile.
//
// Windows of neighbouring grid rows overlap: products are summed over blocks of `stride` rows, and blocks over
// windows. A window is some whole blocks and the head of one more. Nothing is subtracted.
// a, b: the first pixel of the column and of its copy; sums: the first of n_rows sums, `apart` from each other.
__device__ inline void column_sums(const float* a, const float* b, int pitch, int stride, int patch_rows, int n_rows,
                                   float* sums, int apart) {
  const int whole = patch_rows / stride, head_rows = patch_rows % stride, last = n_rows - 1 + whole;
  float sum[TILE_ROWS] = {};
  for (int block = 0; block <= last; ++block) {
    float head = 0.0f, rest = 0.0f;
    int y = 0;
    for (; y < head_rows; ++y, a += pitch, b += pitch) head += *a * *b;
    if (block == last) y = stride;  // of the last block no window has more than the head
    for (; y < stride; ++y, a += pitch, b += pitch) rest += *a * *b;
#pragma unroll
    for (int i = 0; i < TILE_ROWS; ++i) {
      const int place = block - i;
      if (place >= 0 && place < whole) sum[i] += head + rest;
      if (place == whole) sum[i] += head;
    }
  }
#pragma unroll
  for (int i = 0; i < TILE_ROWS; ++i)
    if (i < n_rows) sums[i * apart] = sum[i];
}

// Sums of the pixels, and of their squares, above and left of each corner of a pixel: those of any rectangle from four
// of them. In double: what they lose over a whole image, some 1e-16 of its squares, is far below what is called flat.
struct Integrals {
  const double* sums;  // (height + 1, width + 1, 2)
  int width;

  __device__ void rectangle(int top, int bottom, int left, int right, double& sum, double& squares) const {
    const size_t line = 2 * (size_t)(width + 1);
    const double *above = sums + top * line, *below = sums + bottom * line;
    sum = below[2 * right] - above[2 * right] - below[2 * left] + above[2 * left];
    squares = below[2 * right + 1] - above[2 * right + 1] - below[2 * left + 1] + above[2 * left + 1];
  }
};

// Pearson's coefficient of a patch of which no pixel is masked, at (row, col) with its copy at (d, e), from the sum of
// products about a level. Where the border cuts one of them, over what both have.
__device__ inline float score_of(const Image& image, const Integrals& integrals, int row, int col, int patch_rows,
                                 int patch_cols, int d, int e, double products, float level, float flat) {
  const int top = max(row, max(0, -d)), bottom = min(row + patch_rows, min(image.height, image.height - d));
  const int left = max(col, max(0, -e)), right = min(col + patch_cols, min(image.width, image.width - e));
  const int n = max(0, bottom - top) * max(0, right - left);
  if (2 * n < patch_rows * patch_cols) return NOT_A_NUMBER;
  double part = 1.0f / (float)n;
  part *= 2.0 - n * part;  // as in PairSums
  double a, b, aa, bb;
  integrals.rectangle(top, bottom, left, right, a, aa);
  integrals.rectangle(top + d, bottom + d, left + e, right + e, b, bb);
  const double mean_a = a * part, mean_b = b * part;
  const float var_a = (float)(aa * part - mean_a * mean_a), var_b = (float)(bb * part - mean_b * mean_b);
  if (var_a <= flat || var_b <= flat) return 0.0f;
  if (d == 0 && e == 0) return 1.0f;
  const float r = (float)(products * part - (mean_a - level) * (mean_b - level)) * rsqrtf(var_a) * rsqrtf(var_b);
  return fminf(1.0f, fmaxf(-1.0f, r));
}

// Integrals, first along the rows.
// pixels (height, width) float, NaN counts as 0; sums (height + 1, width + 1, 2) double: all but the first row is set.
// Launch: grid height, block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) integrate_rows(
    const float* pixels, int height, int width, double* sums) {
  __shared__ double part[2][BLOCK / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  double* to = sums + 2 * (size_t)(blockIdx.x + 1) * (width + 1);
  if (threadIdx.x < 2) to[threadIdx.x] = 0.0;
  double before[2] = {0.0, 0.0};
  for (int begin = 0; begin < width; begin += BLOCK) {
    const int x = begin + threadIdx.x;
    const float pixel = x < width ? pixels[(size_t)blockIdx.x * width + x] : 0.0f;
    const double value = isnan(pixel) ? 0.0 : pixel;
    double own[2] = {value, value * value};
#pragma unroll
    for (int which = 0; which < 2; ++which) {
      for (int step = 1; step < 32; step *= 2) {
        const double other = __shfl_up_sync(0xffffffffu, own[which], step);
        if (lane >= step) own[which] += other;
      }
      if (lane == 31) part[which][warp] = own[which];
    }
    __syncthreads();
#pragma unroll
    for (int which = 0; which < 2; ++which) {
      double all = before[which];
      for (int k = 0; k < BLOCK / 32; ++k) {
        if (k == warp) own[which] += all;
        all += part[which][k];
      }
      before[which] = all;
      if (x < width) to[2 * (x + 1) + which] = own[which];
    }
    __syncthreads();  // the parts have been read
  }
}

// Then along the columns, in place; each warp has 32 numbers of a row and some of the rows.
// n_lines: height + 1; length: 2 * (width + 1)
// Launch: grid ceil(length / 32), block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) integrate_columns(int n_lines, int length, double* sums) {
  __shared__ double part[BLOCK / 32][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, x = blockIdx.x * 32 + lane;
  const int rows = (n_lines - 1 + BLOCK / 32 - 1) / (BLOCK / 32);  // of a warp; the first line is 0
  const int begin = 1 + warp * rows, end = min(n_lines, begin + rows);
  double total = 0.0;
  for (int y = begin; y < end && x < length; ++y) total += sums[(size_t)y * length + x];
  part[warp][lane] = total;
  __syncthreads();
  if (x >= length) return;
  total = 0.0;
  for (int k = 0; k < warp; ++k) total += part[k][lane];
  if (warp == 0) sums[x] = 0.0;
  for (int y = begin; y < end; ++y) {
    total += sums[(size_t)y * length + x];
    sums[(size_t)y * length + x] = total;
  }
}

// Components of every grid point, but for the scores that are missing there.
//
// pixels (height, width) float, NaN where masked; integrals (height + 1, width + 1, 2) double of them; shifts (n_shifts,
// 2) int; pairs (n_pairs, 2) int: numbers of two opposite shifts, -1 for none; masked: whether any pixel is; average
// (n_shifts) float; axes (n_axes, n_shifts) float; sums (parts, n_axes + 1, rows, cols) double: the coordinates of the
// scores less their average on the axes, and the square of what they differ by, of the pairs of each part.
// Launch: grid (ceil(cols / tile_cols), ceil(rows / TILE_ROWS), number of parts of the pairs), block BLOCK, with
// TILE_ROWS * tile_cols at most BLOCK; shared: `_shared_bytes` in engines/_cuda_predict.py.
extern "C" __global__ void __launch_bounds__(BLOCK, 2) project_scores(
    const float* pixels, int height, int width, int first_row, int first_col, int stride, int rows, int cols,
    int radius_row, int radius_col, int reach_row, int reach_col, const double* integrals, const int* shifts,
    int n_shifts, const int* pairs, int n_pairs, int masked, float flat, const float* average, const float* axes,
    int n_axes, int tile_cols, double* sums) {
  SHARED_MEMORY(double, totals);  // (n_axes + 1, points of a tile), then what the scores are made from
  const Image image{pixels, height, width};
  const Integrals statistics{integrals, width};
  const int patch_rows = 2 * radius_row + 1, patch_cols = 2 * radius_col + 1;
  const int i0 = blockIdx.y * TILE_ROWS, j0 = blockIdx.x * tile_cols;
  const int n_rows = min(TILE_ROWS, rows - i0), n_cols = min(tile_cols, cols - j0), n_points = n_rows * n_cols;
  const int span = (n_cols - 1) * stride + patch_cols, depth = (n_rows - 1) * stride + patch_rows;
  const int row = first_row + i0 * stride - radius_row, col = first_col + j0 * stride - radius_col;
  const int tile_rows = depth + 2 * reach_row, pitch = span + 2 * reach_col;
  bool complete;
  const float level = level_of(image, row, col, depth, span, complete);

  float* tile = (float*)(totals + (n_axes + 1) * TILE_ROWS * tile_cols);
  float* columns = tile + tile_rows * pitch;  // (2, n_rows, span), of a tile without masked pixels
  double* pair_sums = (double*)tile;          // (6, n_rows, span), of one with some
  const int point = threadIdx.x, i = point / n_cols, j = point % n_cols;
  for (int c = threadIdx.x; c < (n_axes + 1) * n_points; c += BLOCK) totals[c] = 0.0;
  bool hole = false;
  for (int k = threadIdx.x; k < tile_rows * pitch; k += BLOCK) {
    const int y = row - reach_row + k / pitch, x = col - reach_col + k % pitch;
    const bool here = image.holds(y, x, 1, 1);
    tile[k] = here ? image.at(y, x) - level : 0.0f;  // 0 outside: no part of a sum of products
    hole = hole || isnan(tile[k]);
  }
  const bool clean = !__syncthreads_or(masked && hole);

  for (int p = blockIdx.z; p < n_pairs; p += gridDim.z) {
    const int n_of_pair = pairs[2 * p + 1] < 0 ? 1 : 2;
    float score[2] = {NOT_A_NUMBER, NOT_A_NUMBER};
    if (clean) {
      for (int item = threadIdx.x; item < n_of_pair * span; item += BLOCK) {
        const int which = item / span, x = item % span, k = pairs[2 * p + which];
        const float* a = tile + reach_row * pitch + reach_col + x;
        const float* b = a + shifts[2 * k] * pitch + shifts[2 * k + 1];
        column_sums(a, b, pitch, stride, patch_rows, n_rows, columns + which * n_rows * span + x, span);
      }
      __syncthreads();
      for (int which = 0; which < n_of_pair && point < n_points; ++which) {
        const int k = pairs[2 * p + which];
        const float* line = columns + (which * n_rows + i) * span + j * stride;
        double products = 0.0;
        for (int x = 0; x < patch_cols; ++x) products += line[x];
        score[which] = score_of(image, statistics, row + i * stride, col + j * stride, patch_rows, patch_cols,
                                shifts[2 * k], shifts[2 * k + 1], products, level, flat);
      }
      __syncthreads();  // the columns have been read
    } else {
      for (int which = 0; which < n_of_pair; ++which) {
        const int k = pairs[2 * p + which], d = shifts[2 * k], e = shifts[2 * k + 1], n = n_rows * span;
        for (int item = threadIdx.x; item < n; item += BLOCK) {
          const int y0 = row + item / span * stride, x = col + item % span;
          PairSums own;
          for (int y = y0; y < y0 + patch_rows; ++y) own.add(image.at(y, x) - level, image.at(y + d, x + e) - level);
          pair_sums[item] = own.ab;
          pair_sums[item + n] = own.n;
          pair_sums[item + 2 * n] = own.a;
          pair_sums[item + 3 * n] = own.b;
          pair_sums[item + 4 * n] = own.aa;
          pair_sums[item + 5 * n] = own.bb;
        }
        __syncthreads();
        if (point < n_points) {
          const double* line = pair_sums + i * span + j * stride;
          PairSums all;
          for (int x = 0; x < patch_cols; ++x) {
            all.ab += line[x];
            all.n += line[x + n];
            all.a += line[x + 2 * n];
            all.b += line[x + 3 * n];
            all.aa += line[x + 4 * n];
            all.bb += line[x + 5 * n];
          }
          score[which] = all.pearson(patch_rows * patch_cols, flat, d == 0 && e == 0);
        }
        __syncthreads();  // the sums have been read
      }
    }
    for (int which = 0; which < n_of_pair && point < n_points; ++which) {
      const int k = pairs[2 * p + which];
      const float own = isnan(score[which]) ? score[1 - which] : score[which];
      if (isnan(own)) continue;  // project_missing adds it
      const double apart = own - average[k];
      for (int c = 0; c < n_axes; ++c) totals[c * n_points + point] += __ldg(axes + c * n_shifts + k) * apart;
      totals[n_axes * n_points + point] += apart * apart;
    }
  }
  for (int c = 0; c <= n_axes && point < n_points; ++c)
    sums[(((size_t)blockIdx.z * (n_axes + 1) + c) * rows + i0 + i) * cols + j0 + j] = totals[c * n_points + point];
}

// Scores that are missing at a grid point, each taken where the plan says, added to its components.
//
// points (n_points) int: numbers of grid points; begins (n_points + 1) int: their entries; entries (n, 3) int: the
// number of the shift that is missing, of the grid point that it is taken from (-1: from none, the score is 0), and
// of the shift there; sums (n_axes + 1, rows, cols) double: the first part of project_scores'.
// Launch: grid n_points, block BLOCK, a float of shared memory for each entry of the point with most of them.
extern "C" __global__ void __launch_bounds__(BLOCK) project_missing(
    const float* pixels, int height, int width, int first_row, int first_col, int stride, int rows, int cols,
    int radius_row, int radius_col, const int* shifts, int n_shifts, const int* points, const int* begins,
    const int* entries, float flat, const float* average, const float* axes, int n_axes, double* sums) {
  SHARED_MEMORY(float, scores);
  const Image image{pixels, height, width};
  const int patch_cols = 2 * radius_col + 1, patch_size = (2 * radius_row + 1) * patch_cols;
  const int begin = begins[blockIdx.x], n = begins[blockIdx.x + 1] - begin, lane = threadIdx.x % 32;
  for (int entry = threadIdx.x / 32; entry < n; entry += BLOCK / 32) {  // a warp for each
    const int source = entries[3 * (begin + entry) + 1], k = entries[3 * (begin + entry) + 2];
    const int d = shifts[2 * k], e = shifts[2 * k + 1];
    const int row = first_row + source / cols * stride - radius_row;
    const int col = first_col + source % cols * stride - radius_col;
    PairSums own;
    for (int at = lane; source >= 0 && at < patch_size; at += 32) {
      const int y = row + at / patch_cols, x = col + at % patch_cols;
      own.add(image.at(y, x), image.at(y + d, x + e));
    }
    double* part[6] = {&own.n, &own.a, &own.b, &own.aa, &own.bb, &own.ab};
#pragma unroll
    for (int which = 0; which < 6; ++which)
      for (int step = 16; step > 0; step /= 2) *part[which] += __shfl_down_sync(0xffffffffu, *part[which], step);
    if (lane == 0) scores[entry] = source < 0 ? 0.0f : own.pearson(patch_size, flat, d == 0 && e == 0);
  }
  __syncthreads();
  for (int c = threadIdx.x; c <= n_axes; c += BLOCK) {
    double total = 0.0;
    for (int entry = 0; entry < n; ++entry) {
      const int k = entries[3 * (begin + entry)];
      const double apart = scores[entry] - average[k];
      total += apart * (c < n_axes ? (double)axes[c * n_shifts + k] : apart);
    }
    sums[(size_t)c * rows * cols + points[blockIdx.x]] += total;
  }
}

// The nearest centre of every grid point.
//
// sums (parts, n_axes + 1, n_points) double; known (n_points) bool: where every score is there; centers (n_centers,
// n_axes) float; components (n_axes, n_points) float; labels (n_points) int, -1 where not known; certainty (n_points)
// float: 1 - d_1 / d_2 of the distances to the two nearest centres, 0 where not known; misfit (n_points) float:
// squared distance of the scores from the nearest pattern.
// Launch: grid ceil(n_points / BLOCK), block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) label_points(
    const double* sums, int parts, int n_points, const bool* known, const float* centers, int n_centers, int n_axes,
    float* components, int* labels, float* certainty, float* misfit) {
  const int point = blockIdx.x * BLOCK + threadIdx.x;
  if (point >= n_points) return;
  double off = 0.0;  // squared distance of the scores from what the components tell of them
  for (int c = 0; c <= n_axes; ++c) {
    double total = 0.0;
    for (int part = 0; part < parts; ++part) total += sums[((size_t)part * (n_axes + 1) + c) * n_points + point];
    if (c < n_axes) {
      components[(size_t)c * n_points + point] = (float)total;
      off -= total * total;
    } else {
      off += total;
    }
  }
  int label = 0;
  float nearest = 0.0f, second = 0.0f;
  for (int k = 0; k < n_centers; ++k) {
    float distance = 0.0f;
    for (int c = 0; c < n_axes; ++c) {
      const float apart = components[(size_t)c * n_points + point] - centers[k * n_axes + c];
      distance += apart * apart;
    }
    if (k == 0 || distance < nearest) {
      second = nearest;
      nearest = distance;
      label = k;
    } else if (k == 1 || distance < second) {
      second = distance;
    }
  }
  const float sure = n_centers == 1 ? 1.0f : second > 0.0f ? 1.0f - sqrtf(nearest / second) : 0.0f;
  labels[point] = known[point] ? label : -1;
  certainty[point] = known[point] ? sure : 0.0f;
  misfit[point] = known[point] ? (float)(off + nearest) : NOT_A_NUMBER;
}

// Every pixel takes the label and the certainty of its nearest grid point.
//
// near (rows * cols) int: the grid point that a grid point takes its label from, itself where it has one, -1 for
// none; valid (height, width) bool; shown (height, width) int, -1 where not valid; sure (height, width) float, 0 there.
// Launch: grid (ceil(width / BLOCK), at most height), block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) upsample_labels(
    const int* labels, const float* certainty, const int* near, const bool* valid, int height, int width,
    int first_row, int first_col, int stride, int rows, int cols, int* shown, float* sure) {
  const int x = blockIdx.x * BLOCK + threadIdx.x;
  if (x >= width) return;
  const int half = (stride - 1) / 2, j = min(cols - 1, max(0, x - first_col + half) / stride);
  for (int y = blockIdx.y; y < height; y += gridDim.y) {
    const int point = min(rows - 1, max(0, y - first_row + half) / stride) * cols + j;
    const size_t at = (size_t)y * width + x;
    shown[at] = valid[at] && near[point] >= 0 ? labels[near[point]] : -1;
    sure[at] = valid[at] ? certainty[point] : 0.0f;
  }
}

// Mean misfit of the grid points that patterns are learnt from.
// usable (n_points) bool; state (2) double: sum and number
// Launch: grid 1, block BLOCK.
extern "C" __global__ void __launch_bounds__(BLOCK) mean_misfit(
    const float* misfit, const bool* usable, int n_points, double* state) {
  __shared__ double part[2][BLOCK];
  double sum = 0.0, count = 0.0;
  for (int point = threadIdx.x; point < n_points; point += BLOCK) {
    if (!usable[point] || !isfinite(misfit[point])) continue;
    sum += misfit[point];
    count += 1.0;
  }
  part[0][threadIdx.x] = sum;
  part[1][threadIdx.x] = count;
  for (int half = BLOCK / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half)
      for (int which = 0; which < 2; ++which) part[which][threadIdx.x] += part[which][threadIdx.x + half];
  }
  if (threadIdx.x == 0) {
    state[0] = part[0][0];
    state[1] = part[1][0];
  }
}
