// A transition: norm, ReLU, 1×1 convolution and the mean of 2 × 2 pixels. A convolution of 1×1
// pixels and a mean of pixels may change places, which leaves a quarter of the products.
#pragma once

#include "backward.h"

namespace fused {

struct Transition {
  const Grid& g;
  const Norm& norm;
  const Tensor& w;
  int64_t channels = w.size(1), compressed = w.size(0), C = padded(channels);
  int64_t D = padded(compressed), height = g.h / 2, width = g.w / 2, pixels = height * width;
  int64_t K = padded(pixels, 32);

  struct Scratch {
    Memory<BF16> in, pairs, out, columns;
    Memory<float> product;
    explicit Scratch(const Transition& t)
        : in({t.pixels, t.C}), pairs({t.K, t.C}), out({t.pixels, t.D}), columns({t.D, t.K}),
          product({t.pixels, std::max(t.C, t.D)}) {}
  };

  float weight(int64_t out, int64_t in) const {
    bool there = out < compressed && in < channels;
    return there ? floats(w)[out * channels + in] : 0.0f;
  }

  // Means of 2 × 2 pixels of max(0, norm(x)), of one image.
  void pooled(const BF16* x, BF16* to) const {
    int64_t down = g.w * channels;
    for (int64_t y = 0; y < height; y++)
      over_tiles(width, channels, [=, this](int64_t first, int64_t last, int64_t c, __mmask16 mask) {
        Norm::Part part = norm.part(c);
        for (int64_t r = first; r < last; r++) {
          const BF16* p = x + 2 * (y * down + r * channels) + c;
          __m512 upper = part.relu(load(p, mask)) + part.relu(load(p + channels, mask));
          p += down;
          __m512 lower = part.relu(load(p, mask)) + part.relu(load(p + channels, mask));
          store(to + (y * width + r) * C + c, (upper + lower) * _mm512_set1_ps(0.25f));
        }
      });
  }

  // The gradient of one image's pixels from that of their means.
  void spread(const BF16* x, const float* own, BF16* G, float* sums) const {
    for (int64_t y = 0; y < 2 * height; y++)
      over_tiles(2 * width, channels,
                 [=, this](int64_t first, int64_t last, int64_t c, __mmask16 mask) {
                   Masked through{norm.part(c)};
                   for (int64_t r = first; r < last; r++) {
                     int64_t p = (y * g.w + r) * channels + c;
                     __m512 d = _mm512_loadu_ps(own + (y / 2 * width + r / 2) * C + c);
                     d = through(d * _mm512_set1_ps(0.25f), load(x + p, mask));
                     store(G + p, d * through.part.scale, mask);
                   }
                   through.add_to(sums + c, C);
                 });
  }

  void backward(const BF16* x, const BF16* gradient, const BF16* weights, BF16* G, Scratch& s,
                float* weight_sums, float* sums) const {
    for (int64_t r = 0; r < pixels; r++)
      std::copy(gradient + r * compressed, gradient + (r + 1) * compressed, s.out + r * D);
    transpose(s.out, D, pixels, D, s.columns, K);
    pooled(x, s.in);
    pair_rows(s.in, C, pixels, C, s.pairs);
    gemm(D, C, K, s.columns, K, s.pairs, weight_sums, true);
    gemm(pixels, C, D, s.out, D, weights, s.product, false);
    spread(x, s.product, G, sums);
  }
};

Tensor transition_forward(const Tensor& buffer, const Tensor& moments, const Tensor& gamma,
                          const Tensor& beta, const Tensor& weight) {
  Grid g{buffer.size(0), buffer.size(2), buffer.size(3)};
  Norm norm = norm_of(gamma, beta, moments);
  Tensor w = weight.contiguous();
  Transition t{g, norm, w};
  Tensor weights = in_pairs(t.C, t.D, [&](int64_t k, int64_t n) { return t.weight(n, k); });
  Tensor result = at::empty({g.n, t.compressed, t.height, t.width}, buffer.options(),
                            at::MemoryFormat::ChannelsLast);
  over_chunks(g.n, [&](int64_t first, int64_t last) {
    Transition::Scratch s(t);
    for (int64_t i = first; i < last; i++) {
      t.pooled(bf16s(buffer) + i * g.pixels() * t.channels, s.in);
      gemm(t.pixels, t.D, t.C, s.in, t.C, bf16s(weights), s.product, false);
      BF16* to = bf16s(result) + i * t.pixels * t.compressed;
      for (int64_t r = 0; r < t.pixels; r++)
        narrow(s.product + r * t.D, t.compressed, to + r * t.compressed);
    }
  });
  return result;
}

// What block_backward needs, G, constant and slope, and the gradients of γ, β and the weight.
std::vector<Tensor> transition_backward(const Tensor& gradient, const Tensor& buffer,
                                        const Tensor& moments, const Tensor& gamma,
                                        const Tensor& beta, const Tensor& weight) {
  Grid g{buffer.size(0), buffer.size(2), buffer.size(3)};
  Norm norm = norm_of(gamma, beta, moments);
  Tensor w = weight.contiguous();
  Transition t{g, norm, w};
  int64_t C = t.C, D = t.D, channels = t.channels;
  Tensor weights = in_pairs(D, C, [&](int64_t k, int64_t n) { return t.weight(k, n); });
  Pending pending{at::empty_like(buffer), at::zeros({channels}, at::kDouble),
                  at::zeros({channels}, at::kDouble)};
  if (g.h % 2 || g.w % 2) pending.G.zero_();  // the last line, or column, is in no mean
  Tensor weight_sums = zeros({g.image_chunks(), D, C}), sums = zeros({g.image_chunks(), 2, C});
  over_chunks(g.image_chunks(), [&](int64_t first, int64_t last) {
    Transition::Scratch s(t);
    for (int64_t chunk = first; chunk < last; chunk++)
      for (int64_t i = chunk * g.images_a_chunk(); i < g.last_image(chunk); i++) {
        int64_t p = i * g.pixels() * channels;
        t.backward(bf16s(buffer) + p, bf16s(gradient) + i * t.pixels * t.compressed,
                   bf16s(weights), bf16s(pending.G) + p, s,
                   floats(weight_sums) + chunk * weight_sums.stride(0),
                   floats(sums) + chunk * sums.stride(0));
      }
  });
  const float* stds = floats(moments) + channels;
  Tensor total = summed(sums);
  pending.add(total, norm, stds, channels, g.rows());
  std::vector<Tensor> result{pending.G, pending.constant, pending.slope};
  norm_gradients(total, stds, channels, result);
  Tensor own = summed(weight_sums).slice(0, 0, t.compressed).slice(1, 0, channels);
  result.push_back(own.contiguous().view({t.compressed, channels, 1, 1}));
  return result;
}

}  // namespace fused
