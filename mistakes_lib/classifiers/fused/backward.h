// Backward pass of a dense block.
//
// A batch normalisation with y = γ x̂ + β and the gradient d of y gives x the gradient
// γ / σ · (d − mean(d) − x̂ · mean(d x̂)). The last two terms are the same for all rows but for x̂,
// which all layers that read a channel share. So a layer adds γ / σ · d to the gradient of its
// channels, and two numbers a channel to ``constant`` and ``slope``; the true gradient,
// G − constant − slope · (x − mean), is taken once, where the channel was made.
#pragma once

#include "block.h"

namespace fused {

struct Pending {  // the gradient of a block's channels
  Tensor G;       // bfloat16, as the block's channels
  Tensor constant, slope;  // float64 (channels)

  // d's sums over rows, and those of d (x − mean), of the first channels: what one layer adds.
  void add(const Tensor& sums, const Norm& norm, const float* inverse_stds, int64_t channels,
           int64_t rows) {
    const float* s = floats(sums);
    for (int64_t c = 0; c < channels; c++) {
      double inverse = inverse_stds[c];
      doubles(constant)[c] += norm.scale[c] * double(s[c]) / rows;
      doubles(slope)[c] += norm.scale[c] * inverse * inverse * s[sums.size(1) + c] / rows;
    }
  }
};

// What of a channel's gradient is not a multiple of d: constant and slope · (x − mean).
struct Correction {
  std::vector<float> constant, slope, mean;

  Correction(const double* constants, const double* slopes, const float* means, int64_t channels)
      : constant(padded(channels)), slope(padded(channels)), mean(padded(channels)) {
    std::copy(constants, constants + channels, constant.begin());
    std::copy(slopes, slopes + channels, slope.begin());
    std::copy(means, means + channels, mean.begin());
  }

  struct Part {
    __m512 constant, slope, mean;
    __m512 operator()(__m512 gradient, __m512 x) const {
      __m512 d = _mm512_sub_ps(gradient, constant);
      return _mm512_fnmadd_ps(slope, _mm512_sub_ps(x, mean), d);
    }
  };
  Part part(int64_t c) const {
    return {_mm512_loadu_ps(&constant[c]), _mm512_loadu_ps(&slope[c]), _mm512_loadu_ps(&mean[c])};
  }

  void rows(const BF16* gradient, const BF16* x, int64_t ld, int64_t count, int64_t channels,
            BF16* out, int64_t ld_out) const {
    over_tiles(count, channels, [=, this](int64_t first, int64_t last, int64_t c, __mmask16 mask) {
      Part own = part(c);
      for (int64_t r = first; r < last; r++) {
        int64_t p = r * ld + c;
        store(out + r * ld_out + c, own(load(gradient + p, mask), load(x + p, mask)), mask);
      }
    });
  }
};

// What goes back through ReLU and a normalisation: d where norm(x) > 0, and its sums.
struct Masked {
  Norm::Part part;
  __m512 one = _mm512_setzero_ps(), two = one;

  __m512 operator()(__m512 d, __m512 x) {
    d = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(part(x), _mm512_setzero_ps(), _CMP_GT_OQ), d);
    one = _mm512_add_ps(one, d);
    two = _mm512_fmadd_ps(d, _mm512_sub_ps(x, part.mean), two);
    return d;
  }

  void add_to(float* sums, int64_t size) const {
    _mm512_storeu_ps(sums, _mm512_add_ps(_mm512_loadu_ps(sums), one));
    _mm512_storeu_ps(sums + size, _mm512_add_ps(_mm512_loadu_ps(sums + size), two));
  }
};

// Those sums are the gradients of β and, over σ, of γ.
static void norm_gradients(const Tensor& sums, const float* inverse_stds, int64_t channels,
                           std::vector<Tensor>& to) {
  Tensor gamma = zeros({channels}), beta = zeros({channels});
  for (int64_t c = 0; c < channels; c++) {
    floats(beta)[c] = floats(sums)[c];
    floats(gamma)[c] = floats(sums)[sums.size(1) + c] * inverse_stds[c];
  }
  to.push_back(gamma), to.push_back(beta);
}

// The 3×3 convolution, and the normalisation before it, of one image at a time.
struct GrowthBackward {
  const Grid& g;
  const Layer& layer;
  const Norm& norm;
  const Correction& correction;
  int64_t W = padded(layer.width), G = padded(layer.growth), K = padded(g.outputs(), 32);
  int64_t ld = padded(g.bordered() + 64, 32);
  std::vector<Tensor> weights;

  void pack() {
    for (int64_t ky = 0; ky < 3; ky++)
      weights.push_back(in_pairs(3 * G, W, [&](int64_t k, int64_t n) {
        bool there = k % G < layer.growth && n < layer.width;
        return there ? layer.second(k % G, n, 2 - ky, 2 - k / G) : 0.0f;
      }));
  }

  // Scratch of a thread: gradient of the outputs and inputs, bordered; inputs, transposed.
  struct Scratch {
    Memory<BF16> out, pairs, in, columns;
    Memory<float> product;
    explicit Scratch(const GrowthBackward& b)
        : out({b.g.bordered(), b.G}), pairs({b.K, b.G}), in({b.g.bordered(), b.W}),
          columns({b.W, b.ld}), product({b.g.outputs(), b.W}) {}
  };

  void weight_gradient(const BF16* z, Scratch& s, float* to) const {
    into_grid(z, W, layer.width, g, norm, s.in);
    transpose(s.in, W, g.bordered(), W, s.columns, ld);
    pair_rows(s.out + (g.width() + 1) * G, G, g.outputs(), G, s.pairs);
    for (int64_t tap = 0; tap < 9; tap++)
      gemm(W, G, K, s.columns + tap / 3 * g.width() + tap % 3, ld, s.pairs,
           to + tap * W * G, true);
  }

  void image(const BF16* gradient, const BF16* x, int64_t total, const BF16* z, BF16* d,
             Scratch& s, float* weight_sums, float* sums) const {
    for (int64_t y = 0; y < g.h; y++)
      correction.rows(gradient + y * g.w * total, x + y * g.w * total, total, g.w, layer.growth,
                      s.out + ((y + 1) * g.width() + 1) * G, G);
    weight_gradient(z, s, weight_sums);
    for (int64_t ky = 0; ky < 3; ky++)
      gemm(g.outputs(), W, 3 * G, s.out + ky * g.width() * G, G, bf16s(weights[ky]),
           s.product, ky > 0);
    for (int64_t y = 0; y < g.h; y++)
      masked(s.product + y * g.width() * W, z + y * g.w * W, d + y * g.w * W, sums);
  }

  void masked(const float* own, const BF16* z, BF16* d, float* sums) const {
    over_tiles(g.w, W, [=, this](int64_t first, int64_t last, int64_t k, __mmask16) {
      Masked through{norm.part(k)};
      for (int64_t p = first * W + k; p < last * W; p += W)
        store(d + p, through(_mm512_loadu_ps(own + p), load(z + p)));
      through.add_to(sums + k, W);
    });
  }
};

static Tensor growth_backward(const Pending& pending, const Tensor& buffer, const Tensor& z,
                              const Tensor& moments, const Grid& g, const Layer& layer,
                              const Norm& norm, const Tensor& d, std::vector<Tensor>& gradients) {
  int64_t total = buffer.size(1), from = layer.channels;
  Correction correction(doubles(pending.constant) + from, doubles(pending.slope) + from,
                        floats(moments) + from, layer.growth);
  GrowthBackward backward{g, layer, norm, correction};
  backward.pack();
  int64_t W = backward.W, G = backward.G;
  Tensor weights = zeros({g.image_chunks(), 9, W, G}), sums = zeros({g.image_chunks(), 2, W});
  over_chunks(g.image_chunks(), [&](int64_t first, int64_t last) {
    GrowthBackward::Scratch scratch(backward);
    for (int64_t chunk = first; chunk < last; chunk++)
      for (int64_t i = chunk * g.images_a_chunk(); i < g.last_image(chunk); i++) {
        int64_t p = i * g.pixels() * total + from, q = i * g.pixels() * W;
        backward.image(bf16s(pending.G) + p, bf16s(buffer) + p, total, bf16s(z) + q, bf16s(d) + q,
                       scratch, floats(weights) + chunk * weights.stride(0),
                       floats(sums) + chunk * sums.stride(0));
      }
  });
  Tensor w2 = summed(weights).view({3, 3, W, G}).permute({3, 2, 0, 1});
  gradients.push_back(w2.slice(0, 0, layer.growth).slice(1, 0, layer.width).contiguous());
  return summed(sums);
}

// The 1×1 convolution, and the normalisation before it, of some rows.
struct BottleneckBackward {
  const Layer& layer;
  const Norm& norm;             // of the block's channels
  const Norm& inner;            // of z
  const Correction& correction; // of z's gradient
  int64_t total, W = padded(layer.width), C = padded(layer.channels);
  Tensor weights = in_pairs(W, C, [this](int64_t k, int64_t n) {
    return k < layer.width && n < layer.channels ? layer.first(k, n) : 0.0f;
  });

  struct Scratch {
    Memory<BF16> out, columns, pairs;
    Memory<float> product;
    explicit Scratch(const BottleneckBackward& b)
        : out({BLOCK, b.W}), columns({b.W, BLOCK}), pairs({BLOCK, b.C}), product({BLOCK, b.C}) {}
  };

  // The gradient's rows are asked for here: two products later they have come.
  void normalised_pairs(const BF16* x, const BF16* G, int64_t rows, BF16* to) const {
    over_tiles(padded(rows, 32), C, [=, this](int64_t first, int64_t last, int64_t c, __mmask16) {
      __mmask16 mask = lanes(layer.channels - c);
      Norm::Part part = norm.part(c);
      for (int64_t r = first; r < last; r += 2) {
        int64_t p = r * total + c, later = p + TILE * total;
        prefetch(x + later), prefetch(x + later + total), prefetch(G + p), prefetch(G + p + total);
        __m512 even = _mm512_setzero_ps(), odd = even;
        if (r < rows) even = part.relu(load(x + p, mask));
        if (r + 1 < rows) odd = part.relu(load(x + p + total, mask));
        _mm512_storeu_si512(to + r * C + 2 * c, interleaved(narrowed(even), narrowed(odd)));
      }
    });
  }

  void out_gradient(const BF16* z, const BF16* d, int64_t rows, BF16* out) const {
    over_tiles(rows, W, [=, this](int64_t first, int64_t last, int64_t k, __mmask16) {
      Correction::Part part = correction.part(k);
      __m512 scale = inner.part(k).scale;
      for (int64_t p = first * W + k; p < last * W; p += W)
        store(out + p, part(_mm512_mul_ps(load(d + p), scale), load(z + p)));
    });
  }

  void add_gradient(const BF16* x, const float* own, int64_t rows, BF16* G, float* sums) const {
    over_tiles(rows, layer.channels,
               [=, this](int64_t first, int64_t last, int64_t c, __mmask16 mask) {
                 Masked through{norm.part(c)};
                 for (int64_t r = first; r < last; r++) {
                   int64_t p = r * total + c;
                   __m512 d = through(_mm512_loadu_ps(own + r * C + c), load(x + p, mask));
                   d = _mm512_fmadd_ps(d, through.part.scale, load(G + p, mask));
                   store(G + p, d, mask);
                 }
                 through.add_to(sums + c, C);
               });
  }

  void block(const BF16* x, const BF16* z, const BF16* d, int64_t rows, BF16* G, Scratch& s,
             float* weight_sums, float* sums) const {
    out_gradient(z, d, rows, s.out);
    transpose(s.out, W, rows, W, s.columns, BLOCK);
    normalised_pairs(x, G, rows, s.pairs);
    gemm(W, C, padded(rows, 32), s.columns, BLOCK, s.pairs, weight_sums, true);
    gemm(rows, C, W, s.out, W, bf16s(weights), s.product, false);
    add_gradient(x, s.product, rows, G, sums);
  }
};

static Tensor bottleneck_backward(const BottleneckBackward& backward, const Tensor& buffer,
                                  const Tensor& z, const Tensor& d, const Grid& g,
                                  const Pending& pending, std::vector<Tensor>& gradients) {
  int64_t total = backward.total, W = backward.W, C = backward.C;
  const Layer& layer = backward.layer;
  Tensor weights = zeros({g.row_chunks(), W, C}), sums = zeros({g.row_chunks(), 2, C});
  over_chunks(g.row_chunks(), [&](int64_t first, int64_t last) {
    BottleneckBackward::Scratch scratch(backward);
    for (int64_t chunk = first; chunk < last; chunk++)
      for (int64_t r = chunk * CHUNK; r < g.last_row(chunk); r += BLOCK)
        backward.block(bf16s(buffer) + r * total, bf16s(z) + r * W, bf16s(d) + r * W,
                       std::min(BLOCK, g.last_row(chunk) - r), bf16s(pending.G) + r * total,
                       scratch, floats(weights) + chunk * weights.stride(0),
                       floats(sums) + chunk * sums.stride(0));
  });
  Tensor w1 = summed(weights).slice(0, 0, layer.width).slice(1, 0, layer.channels);
  gradients.push_back(w1.contiguous().view({layer.width, layer.channels, 1, 1}));
  return summed(sums);
}

// One layer: reads the gradient of its own channels, adds to that of those which it read.
static std::vector<Tensor> layer_backward(Pending& pending, const Tensor& buffer, const Tensor& z,
                                          const Tensor& moments, const Tensor& inner_moments,
                                          const Grid& g, const Layer& layer, const Tensor& d) {
  int64_t W = padded(layer.width), rows = g.rows();
  const float* stds = floats(moments) + moments.size(1);
  const float* inner_stds = floats(inner_moments) + layer.width;
  std::vector<Tensor> first, second;
  Norm norm = norm_of(layer.gamma1, layer.beta1, moments);
  Norm inner = norm_of(layer.gamma2, layer.beta2, inner_moments);
  Tensor sums = growth_backward(pending, buffer, z, moments, g, layer, inner, d, second);
  norm_gradients(sums, inner_stds, layer.width, second);

  Pending own{d, at::zeros({W}, at::kDouble), at::zeros({W}, at::kDouble)};
  own.add(sums, inner, inner_stds, layer.width, rows);
  Correction correction(doubles(own.constant), doubles(own.slope), floats(inner_moments),
                        layer.width);
  BottleneckBackward backward{layer, norm, inner, correction, buffer.size(1)};
  sums = bottleneck_backward(backward, buffer, z, d, g, pending, first);
  pending.add(sums, norm, stds, layer.channels, rows);
  norm_gradients(sums, stds, layer.channels, first);
  return {first[1], first[2], first[0], second[1], second[2], second[0]};
}

// The gradients of x and of the parameters. G, the gradient of the block's channels as far as it
// is known, and constant and slope (see above) are overwritten.
std::vector<Tensor> block_backward(const Tensor& G, const Tensor& constant, const Tensor& slope,
                                   const Tensor& buffer, const Tensor& z, const Tensor& inner,
                                   const Tensor& moments, at::TensorList parameters) {
  Grid g{buffer.size(0), buffer.size(2), buffer.size(3)};
  Pending pending{G, constant, slope};
  int64_t count = parameters.size() / 6, total = buffer.size(1);
  Tensor d = at::empty_like(z[0]);
  std::vector<Tensor> gradients(1 + parameters.size());
  for (int64_t i = count - 1; i >= 0; i--) {
    Layer layer(parameters, i);
    auto own = layer_backward(pending, buffer, z[i], moments, inner[i], g, layer, d);
    std::copy(own.begin(), own.end(), gradients.begin() + 1 + 6 * i);
  }
  int64_t channels = Layer(parameters, 0).channels;
  gradients[0] = at::empty({g.n, channels, g.h, g.w}, G.options(), at::MemoryFormat::ChannelsLast);
  Correction correction(doubles(constant), doubles(slope), floats(moments), channels);
  at::parallel_for(0, g.rows(), CHUNK, [&](int64_t first, int64_t last) {
    correction.rows(bf16s(G) + first * total, bf16s(buffer) + first * total, total, last - first,
                    channels, bf16s(gradients[0]) + first * channels, channels);
  });
  return gradients;
}

}  // namespace fused
