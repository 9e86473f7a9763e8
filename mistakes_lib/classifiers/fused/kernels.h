// Small pieces of a dense block in bfloat16 on a CPU: rows of channels, 16 channels at a time.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace fused {

using at::Tensor;
using BF16 = c10::BFloat16;

constexpr int64_t LANES = 16;
constexpr int64_t TILE = 16;      // rows of which 16 channels are worked on together
constexpr int64_t BLOCK = 128;    // rows that go through the caches together
constexpr int64_t CHUNK = 1024;   // rows whose sums are taken together, however many threads there are
constexpr __mmask16 ALL = 0xffff;

inline int64_t divided_up(int64_t n, int64_t by) { return (n + by - 1) / by; }
inline int64_t padded(int64_t n, int64_t to = LANES) { return divided_up(n, to) * to; }
inline __mmask16 lanes(int64_t left) { return left >= LANES ? ALL : __mmask16((1u << left) - 1); }

inline __m512 widened(__m256i v) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
}
inline __m256i narrowed(__m512 v) { return (__m256i)_mm512_cvtneps_pbh(v); }
inline __m512 load(const BF16* p, __mmask16 mask = ALL) {
  return widened(_mm256_maskz_loadu_epi16(mask, p));
}
inline void store(BF16* p, __m512 v, __mmask16 mask = ALL) {
  _mm256_mask_storeu_epi16(p, mask, narrowed(v));
}

inline Tensor zeros(at::IntArrayRef shape) { return at::zeros(shape, at::kFloat); }
inline Tensor bf16_zeros(at::IntArrayRef shape) { return at::zeros(shape, at::kBFloat16); }
inline float* floats(const Tensor& t) { return t.data_ptr<float>(); }
inline double* doubles(const Tensor& t) { return t.data_ptr<double>(); }
inline BF16* bf16s(const Tensor& t) { return t.data_ptr<BF16>(); }

// Zeroed memory of a thread.
template <class T>
struct Memory {
  Tensor owner;
  T* start;

  explicit Memory(at::IntArrayRef shape)
      : owner(at::zeros(shape, c10::CppTypeToScalarType<T>::value)),
        start(owner.data_ptr<T>()) {}
  operator T*() const { return start; }
};

// C (M, N) float32 = or += A (M, K) · B (K, N); B lies in pairs of rows: (K / 2, N, 2).
inline void gemm(int64_t M, int64_t N, int64_t K, const BF16* A, int64_t lda, const BF16* B, float* C,
                 bool add) {
  at::native::cpublas::brgemm(M, N, K, lda, N, N, add, A, B, C, true);
}

// Each thread takes some of the chunks; ``body(first, last)`` has its own scratch memory.
template <class Body>
void over_chunks(int64_t count, const Body& body) {
  at::parallel_for(0, count, 1, [&](int64_t first, int64_t last) {
    body(first, last);
    at::native::cpublas::brgemm_release(true);
  });
}

// A small matrix (K, N) given by ``value(k, n)``, as gemm wants its right factor.
template <class Value>
Tensor in_pairs(int64_t K, int64_t N, const Value& value) {
  Tensor result = bf16_zeros({K / 2, N, 2});
  BF16* to = bf16s(result);
  for (int64_t k = 0; k < K; k++)
    for (int64_t n = 0; n < N; n++) to[((k / 2) * N + n) * 2 + k % 2] = BF16(value(k, n));
  return result;
}

inline __m512i interleaved(__m256i even, __m256i odd) {
  return _mm512_or_si512(_mm512_cvtepu16_epi32(even),
                         _mm512_slli_epi32(_mm512_cvtepu16_epi32(odd), 16));
}

inline __m256i row_or_zero(const BF16* p, bool there) {
  return there ? _mm256_loadu_si256((const __m256i*)p) : _mm256_setzero_si256();
}

// Rows of bfloat16 → pairs of rows (padded(rows, 32) / 2, columns, 2), the last ones zero.
inline void pair_rows(const BF16* from, int64_t ld, int64_t rows, int64_t columns, BF16* to) {
  for (int64_t r = 0; r < padded(rows, 32); r += 2)
    for (int64_t c = 0; c < columns; c += LANES) {
      const BF16* p = from + r * ld + c;
      __m512i both = interleaved(row_or_zero(p, r < rows), row_or_zero(p + ld, r + 1 < rows));
      _mm512_storeu_si512(to + r * columns + 2 * c, both);
    }
}

inline void transpose_16x16(__m512i r[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
    r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
    r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
    r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
  }
  for (int j = 0; j < 4; j++) {
    __m512i a = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88);
    __m512i b = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88);
    __m512i c = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);
    __m512i d = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
    t[j] = _mm512_shuffle_i32x4(a, b, 0x88);
    t[4 + j] = _mm512_shuffle_i32x4(c, d, 0x88);
    t[8 + j] = _mm512_shuffle_i32x4(a, b, 0xdd);
    t[12 + j] = _mm512_shuffle_i32x4(c, d, 0xdd);
  }
  std::copy(t, t + 16, r);
}

// Rows (rows, columns) → (columns, ld_to), where ld_to ≥ padded(rows, 32); the last ones zero.
inline void transpose(const BF16* from, int64_t ld, int64_t rows, int64_t columns, BF16* to,
                      int64_t ld_to) {
  for (int64_t r = 0; r < rows; r += 32)
    for (int64_t c = 0; c < columns; c += LANES) {
      __m512i pairs[16];
      for (int i = 0; i < 16; i++) {
        int64_t row = r + 2 * i;
        const BF16* p = from + row * ld + c;
        pairs[i] = interleaved(row_or_zero(p, row < rows), row_or_zero(p + ld, row + 1 < rows));
      }
      transpose_16x16(pairs);
      for (int i = 0; i < 16; i++) _mm512_storeu_si512(to + (c + i) * ld_to + r, pairs[i]);
    }
}

// Batch normalisation as y = scale · x + shift; channels are padded with zeros.
struct Norm {
  std::vector<float> scale, shift, mean;

  Norm(const Tensor& gamma, const Tensor& beta, const float* means, const float* inverse_stds) {
    int64_t channels = gamma.numel(), size = padded(channels);
    scale.resize(size), shift.resize(size), mean.resize(size);
    Tensor g = gamma.contiguous(), b = beta.contiguous();
    for (int64_t c = 0; c < channels; c++) {
      mean[c] = means[c];
      scale[c] = floats(g)[c] * inverse_stds[c];
      shift[c] = floats(b)[c] - means[c] * scale[c];
    }
  }

  // Of 16 channels from c.
  struct Part {
    __m512 scale, shift, mean;
    __m512 operator()(__m512 x) const { return _mm512_fmadd_ps(x, scale, shift); }
    __m512 relu(__m512 x) const { return _mm512_max_ps((*this)(x), _mm512_setzero_ps()); }
  };
  Part part(int64_t c) const {
    return {_mm512_loadu_ps(&scale[c]), _mm512_loadu_ps(&shift[c]), _mm512_loadu_ps(&mean[c])};
  }
};

// Calls ``body(first row, last row, first channel, mask)`` for tiles of 16 channels and few rows,
// so that what belongs to a channel stays in registers, and rows come from memory in their order.
template <class Body>
inline void over_tiles(int64_t rows, int64_t channels, const Body& body) {
  for (int64_t r = 0; r < rows; r += TILE)
    for (int64_t c = 0; c < channels; c += LANES)
      body(r, std::min(rows, r + TILE), c, lanes(channels - c));
}

// Asks for a line of memory that is needed soon.
inline void prefetch(const BF16* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }

// Rows: out[0, padded(channels)) = max(0, norm(x)).
inline void norm_relu(const BF16* x, int64_t ld, int64_t rows, int64_t channels, const Norm& norm,
                      BF16* out, int64_t ld_out) {
  over_tiles(rows, channels, [=, &norm](int64_t first, int64_t last, int64_t c, __mmask16 mask) {
    Norm::Part part = norm.part(c);
    for (int64_t r = first; r < last; r++) {
      prefetch(x + (r + TILE) * ld + c);
      store(out + r * ld_out + c, part.relu(load(x + r * ld + c, mask)));
    }
  });
}

// float32 rows of padded(channels) → bfloat16 rows of ``channels``.
inline void narrow(const float* from, int64_t channels, BF16* to) {
  for (int64_t c = 0; c < channels; c += LANES)
    store(to + c, _mm512_loadu_ps(from + c), lanes(channels - c));
}

// Sums of a chunk's rows, from which means and variances come: about a row of the chunk, so that
// a mean far from zero takes no digits from the variance. ``sums`` is (3, padded(channels)).
inline void add_moments(const BF16* x, int64_t ld, int64_t rows, int64_t channels, bool first,
                        float* sums) {
  int64_t size = padded(channels);
  for (int64_t c = 0; c < channels; c += LANES) {
    __mmask16 mask = lanes(channels - c);
    if (first) _mm512_storeu_ps(sums + c, load(x + c, mask));
    __m512 pivot = _mm512_loadu_ps(sums + c), one = _mm512_setzero_ps(), two = one;
    for (int64_t r = 0; r < rows; r++) {
      __m512 v = _mm512_sub_ps(load(x + r * ld + c, mask), pivot);
      one = _mm512_add_ps(one, v);
      two = _mm512_fmadd_ps(v, v, two);
    }
    float *p = sums + size + c, *q = p + size;
    _mm512_storeu_ps(p, _mm512_add_ps(_mm512_loadu_ps(p), one));
    _mm512_storeu_ps(q, _mm512_add_ps(_mm512_loadu_ps(q), two));
  }
}

// Sums over chunks, always in the same order.
inline Tensor summed(const Tensor& parts) {
  int64_t count = parts.size(0), size = parts.numel() / count;
  Tensor result = zeros(parts.sizes().slice(1));
  const float* from = floats(parts);
  float* to = floats(result);
  at::parallel_for(0, size, 4096, [&](int64_t first, int64_t last) {
    for (int64_t part = 0; part < count; part++)
      for (int64_t i = first; i < last; i++) to[i] += from[part * size + i];
  });
  return result;
}

}  // namespace fused
