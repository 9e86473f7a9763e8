// Forward pass of a dense block: every channel is written once, and measured once for all layers.
#pragma once

#include "block.h"

namespace fused {

// x → the block's first channels, with their moments.
static void take_input(const Tensor& x, const Grid& g, const Tensor& buffer, Statistics& statistics) {
  int64_t channels = x.size(1), total = buffer.size(1);
  Tensor sums = zeros({g.row_chunks(), 3, padded(channels)});
  const BF16* from = bf16s(x);
  BF16* to = bf16s(buffer);
  over_chunks(g.row_chunks(), [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; chunk++)
      for (int64_t r = chunk * CHUNK; r < g.last_row(chunk); r += BLOCK) {
        int64_t rows = std::min(BLOCK, g.last_row(chunk) - r);
        for (int64_t i = r; i < r + rows; i++)
          std::copy(from + i * channels, from + (i + 1) * channels, to + i * total);
        add_moments(to + r * total, total, rows, channels, r == chunk * CHUNK,
                    floats(sums) + chunk * sums.stride(0));
      }
  });
  statistics.merge(0, sums, chunk_rows(g.rows(), CHUNK), channels);
}

// The block's first channels → norm, ReLU, 1×1 convolution → z (rows, padded(width)).
static Statistics bottleneck(const Tensor& buffer, const Grid& g, const Layer& layer,
                             const Norm& norm, const Tensor& z) {
  int64_t total = buffer.size(1), channels = layer.channels, K = padded(channels);
  int64_t W = padded(layer.width);
  const BF16* in = bf16s(buffer);
  Tensor weights = in_pairs(K, W, [&](int64_t k, int64_t n) {
    return k < channels && n < layer.width ? layer.first(n, k) : 0.0f;
  });
  Tensor sums = zeros({g.row_chunks(), 3, W});
  over_chunks(g.row_chunks(), [&](int64_t first, int64_t last) {
    Memory<BF16> a({BLOCK, K});
    Memory<float> product({BLOCK, W});
    for (int64_t chunk = first; chunk < last; chunk++)
      for (int64_t r = chunk * CHUNK; r < g.last_row(chunk); r += BLOCK) {
        int64_t rows = std::min(BLOCK, g.last_row(chunk) - r);
        norm_relu(in + r * total, total, rows, channels, norm, a, K);
        gemm(rows, W, K, a, K, bf16s(weights), product, false);
        BF16* out = bf16s(z) + r * W;
        for (int64_t i = 0; i < rows; i++) narrow(product + i * W, W, out + i * W);
        add_moments(out, W, rows, W, r == chunk * CHUNK, floats(sums) + chunk * sums.stride(0));
      }
  });
  Statistics statistics(layer.width);
  statistics.merge(0, sums, chunk_rows(g.rows(), CHUNK), layer.width);
  return statistics;
}

// z → norm, ReLU, 3×3 convolution → the block's next channels, with their moments.
static void growth(const Tensor& z, const Grid& g, const Layer& layer, const Norm& norm,
                   const Tensor& buffer, Statistics& statistics) {
  int64_t total = buffer.size(1), W = padded(layer.width), G = padded(layer.growth);
  std::vector<Tensor> weights;
  for (int64_t ky = 0; ky < 3; ky++)
    weights.push_back(in_pairs(3 * W, G, [&](int64_t k, int64_t n) {
      bool there = k % W < layer.width && n < layer.growth;
      return there ? layer.second(n, k % W, ky, k / W) : 0.0f;
    }));
  Tensor sums = zeros({g.image_chunks(), 3, G});
  over_chunks(g.image_chunks(), [&](int64_t first, int64_t last) {
    Memory<BF16> a({g.bordered(), W});
    Memory<float> product({g.outputs(), G});
    for (int64_t chunk = first; chunk < last; chunk++)
      for (int64_t i = chunk * g.images_a_chunk(); i < g.last_image(chunk); i++) {
        into_grid(bf16s(z) + i * g.pixels() * W, W, layer.width, g, norm, a);
        for (int64_t ky = 0; ky < 3; ky++)
          gemm(g.outputs(), G, 3 * W, a + ky * g.width() * W, W, bf16s(weights[ky]), product,
               ky > 0);
        BF16* out = bf16s(buffer) + i * g.pixels() * total + layer.channels;
        for (int64_t y = 0; y < g.h; y++)
          for (int64_t x = 0; x < g.w; x++)
            narrow(product + (y * g.width() + x) * G, layer.growth,
                   out + (y * g.w + x) * total);
        add_moments(out, total, g.pixels(), layer.growth, i == chunk * g.images_a_chunk(),
                    floats(sums) + chunk * sums.stride(0));
      }
  });
  statistics.merge(layer.channels, sums, chunk_rows(g.rows(), g.images_a_chunk() * g.pixels()),
                   layer.growth);
}

// x (n, c, h, w) bfloat16, channels last. ``parameters`` has six tensors a layer (see Layer),
// ``running`` four: mean and variance of both normalisations, updated in place; two more at the end
// are those of a normalisation of all channels. Returns the block's channels; what enters each
// second normalisation; the moments of the latter and of the former.
std::vector<Tensor> block_forward(const Tensor& x, at::TensorList parameters, at::TensorList running,
                                  double momentum, double eps) {
  Grid g{x.size(0), x.size(2), x.size(3)};
  int64_t count = parameters.size() / 6;
  Layer last(parameters, count - 1);
  int64_t total = last.channels + last.growth, W = padded(last.width);
  Tensor buffer = at::empty({g.n, total, g.h, g.w}, x.options(), at::MemoryFormat::ChannelsLast);
  Tensor z = at::empty({count, g.rows(), W}, x.options());
  Statistics statistics(total);
  take_input(x, g, buffer, statistics);
  std::vector<Tensor> inner;
  for (int64_t i = 0; i < count; i++) {
    Layer layer(parameters, i);
    Norm norm = norm_of(layer.gamma1, layer.beta1, statistics.normalising(g.rows(), eps));
    statistics.keep(running[4 * i], running[4 * i + 1], g.rows(), momentum);
    Statistics own = bottleneck(buffer, g, layer, norm, z[i]);
    inner.push_back(own.normalising(g.rows(), eps));
    own.keep(running[4 * i + 2], running[4 * i + 3], g.rows(), momentum);
    growth(z[i], g, layer, norm_of(layer.gamma2, layer.beta2, inner.back()), buffer, statistics);
  }
  if (running.size() > size_t(4 * count))
    statistics.keep(running[4 * count], running[4 * count + 1], g.rows(), momentum);
  return {buffer, z, at::stack(inner), statistics.normalising(g.rows(), eps)};
}

}  // namespace fused
