// What the passes of a dense block share: its sizes, and the batch statistics of its channels.
#pragma once

#include "kernels.h"

namespace fused {

// Images with a border of zeros, as rows: what a 3×3 convolution reads without any test.
struct Grid {
  int64_t n, h, w;

  int64_t pixels() const { return h * w; }
  int64_t rows() const { return n * h * w; }
  int64_t width() const { return w + 2; }
  int64_t bordered() const { return (h + 2) * width(); }
  int64_t outputs() const { return (h - 1) * width() + w; }  // with two useless ones a line
  int64_t images_a_chunk() const { return std::max<int64_t>(1, CHUNK / pixels()); }
  int64_t image_chunks() const { return divided_up(n, images_a_chunk()); }
  int64_t row_chunks() const { return divided_up(rows(), CHUNK); }
  int64_t last_image(int64_t chunk) const { return std::min(n, (chunk + 1) * images_a_chunk()); }
  int64_t last_row(int64_t chunk) const { return std::min(rows(), (chunk + 1) * CHUNK); }
};

// A bottleneck layer: its parameters, and how many channels it reads.
struct Layer {
  Tensor gamma1, beta1, w1, gamma2, beta2, w2;
  int64_t channels, width, growth;

  Layer(const at::TensorList& all, int64_t index) {
    auto part = [&](int64_t i) { return all[6 * index + i].contiguous(); };
    gamma1 = part(0), beta1 = part(1), w1 = part(2);
    gamma2 = part(3), beta2 = part(4), w2 = part(5);
    channels = w1.size(1), width = w1.size(0), growth = w2.size(0);
  }

  float first(int64_t out, int64_t in) const { return floats(w1)[out * channels + in]; }
  float second(int64_t out, int64_t in, int64_t ky, int64_t kx) const {
    return floats(w2)[((out * width + in) * 3 + ky) * 3 + kx];
  }
};

// Mean and sum of squares about it of all rows, from those of the chunks (Chan et al. 1979).
inline void merge_moments(const Tensor& sums, const std::vector<int64_t>& counts, int64_t channels,
                          double* mean, double* m2) {
  int64_t size = padded(channels);
  for (int64_t c = 0; c < channels; c++) {
    double n = 0, m = 0, q = 0;
    for (size_t i = 0; i < counts.size(); i++) {
      const float* part = floats(sums) + 3 * size * i + c;
      double k = counts[i], one = part[size], two = part[2 * size];
      double step = part[0] + one / k - m;
      q += two - one * one / k + step * step * n * k / (n + k);
      m += step * k / (n + k);
      n += k;
    }
    mean[c] = m, m2[c] = std::max(q, 0.0);
  }
}

// The batch's statistics of channels: float32 (2, channels), mean and 1 / √(variance + ε).
struct Statistics {
  Tensor mean, m2;  // float64

  explicit Statistics(int64_t channels)
      : mean(at::zeros({channels}, at::kDouble)), m2(at::zeros({channels}, at::kDouble)) {}

  void merge(int64_t from, const Tensor& sums, const std::vector<int64_t>& counts,
             int64_t channels) {
    merge_moments(sums, counts, channels, doubles(mean) + from, doubles(m2) + from);
  }

  Tensor normalising(int64_t rows, double eps) const {
    int64_t channels = mean.numel();
    Tensor result = zeros({2, channels});
    for (int64_t c = 0; c < channels; c++) {
      floats(result)[c] = doubles(mean)[c];
      floats(result)[channels + c] = 1 / std::sqrt(doubles(m2)[c] / rows + eps);
    }
    return result;
  }

  // As torch does it: the variance that is kept is the unbiased one.
  void keep(const Tensor& running_mean, const Tensor& running_var, int64_t rows,
            double momentum) const {
    for (int64_t c = 0; c < running_mean.numel(); c++) {
      float &m = floats(running_mean)[c], &v = floats(running_var)[c];
      m = (1 - momentum) * m + momentum * doubles(mean)[c];
      v = (1 - momentum) * v + momentum * doubles(m2)[c] / (rows - 1);
    }
  }
};

inline std::vector<int64_t> chunk_rows(int64_t rows, int64_t size) {
  std::vector<int64_t> counts;
  for (int64_t first = 0; first < rows; first += size)
    counts.push_back(std::min(size, rows - first));
  return counts;
}

inline Norm norm_of(const Tensor& gamma, const Tensor& beta, const Tensor& moments) {
  return Norm(gamma, beta, floats(moments), floats(moments) + moments.size(-1));
}

// Normalise rows of an image into the inner part of a bordered grid.
inline void into_grid(const BF16* x, int64_t ld, int64_t channels, const Grid& g, const Norm& norm,
                      BF16* out) {
  int64_t size = padded(channels);
  for (int64_t y = 0; y < g.h; y++)
    norm_relu(x + y * g.w * ld, ld, g.w, channels, norm, out + ((y + 1) * g.width() + 1) * size,
              size);
}

}  // namespace fused
