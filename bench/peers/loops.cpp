// SPDX-License-Identifier: MIT
// The norms as plain loops, as one writes them by hand for the machine at hand: raw pointers, a row
// after the other, two sweeps for the statistics of a LayerNorm (the mean, then the deviations'
// squares), one for those of an RMSNorm, one that writes. Nothing guards a sum from overflow or
// from rounding.
//
// Compiled by g++ and by clang++ with -O3 -march=native -ffast-math, see CMakeLists.txt. Without
// -ffast-math neither may reorder a sum, so neither makes vectors of it. The flags are those of
// another machine than the rest of the program is built for: hence no function of a library here.
#include "peers/operands.hpp"

namespace {

using std::ptrdiff_t;
using tokennorm::bench::Operands;
using tokennorm::bench::Operation;

struct Row {
  ptrdiff_t channels;
  float epsilon;
  const float* scale;
  const float* shift;
};

void layer_norm_row(const Row& row, const float* __restrict x, float sum, float* __restrict y) {
  const ptrdiff_t channels = row.channels;
  const float* __restrict scale = row.scale;
  const float* __restrict shift = row.shift;
  const float mean = sum / static_cast<float>(channels);
  float squares = 0;
  for (ptrdiff_t c = 0; c < channels; ++c) squares += (x[c] - mean) * (x[c] - mean);
  const float variance = squares / static_cast<float>(channels);
  const float rstd = 1 / __builtin_sqrtf(variance + row.epsilon);
  for (ptrdiff_t c = 0; c < channels; ++c) y[c] = (x[c] - mean) * rstd * scale[c] + shift[c];
}

void rms_norm_row(const Row& row, const float* __restrict x, float squares, float* __restrict y) {
  const ptrdiff_t channels = row.channels;
  const float* __restrict scale = row.scale;
  const float rstd = 1 / __builtin_sqrtf(squares / static_cast<float>(channels) + row.epsilon);
  for (ptrdiff_t c = 0; c < channels; ++c) y[c] = x[c] * rstd * scale[c];
}

float sum_of(const float* __restrict x, ptrdiff_t channels) {
  float sum = 0;
  for (ptrdiff_t c = 0; c < channels; ++c) sum += x[c];
  return sum;
}

float squares_of(const float* __restrict x, ptrdiff_t channels) {
  float squares = 0;
  for (ptrdiff_t c = 0; c < channels; ++c) squares += x[c] * x[c];
  return squares;
}

float add_and_sum(const float* __restrict x, const float* __restrict update, float* __restrict to,
                  ptrdiff_t channels) {
  float sum = 0;
  for (ptrdiff_t c = 0; c < channels; ++c) {
    const float value = x[c] + update[c];
    to[c] = value;
    sum += value;
  }
  return sum;
}

float add_and_square(const float* __restrict x, const float* __restrict update,
                     float* __restrict to, ptrdiff_t channels) {
  float squares = 0;
  for (ptrdiff_t c = 0; c < channels; ++c) {
    const float value = x[c] + update[c];
    to[c] = value;
    squares += value * value;
  }
  return squares;
}

void layer_norm_backward_row(const float* __restrict x, const float* __restrict dy,
                             const float* __restrict scale, float mean, float rstd,
                             ptrdiff_t channels, float* __restrict dx, float* __restrict dscale,
                             float* __restrict dshift) {
  float mean_g = 0, mean_gx = 0;
  for (ptrdiff_t c = 0; c < channels; ++c) {
    const float normalized = (x[c] - mean) * rstd;
    const float g = dy[c] * scale[c];
    mean_g += g;
    mean_gx += g * normalized;
    dscale[c] += dy[c] * normalized;
    dshift[c] += dy[c];
  }
  mean_g /= static_cast<float>(channels);
  mean_gx /= static_cast<float>(channels);
  for (ptrdiff_t c = 0; c < channels; ++c) {
    dx[c] = (dy[c] * scale[c] - mean_g - (x[c] - mean) * rstd * mean_gx) * rstd;
  }
}

void rms_norm_backward_row(const float* __restrict x, const float* __restrict dy,
                           const float* __restrict scale, float rstd, ptrdiff_t channels,
                           float* __restrict dx, float* __restrict dscale) {
  float mean_gx = 0;
  for (ptrdiff_t c = 0; c < channels; ++c) {
    const float normalized = x[c] * rstd;
    mean_gx += dy[c] * scale[c] * normalized;
    dscale[c] += dy[c] * normalized;
  }
  mean_gx /= static_cast<float>(channels);
  for (ptrdiff_t c = 0; c < channels; ++c) {
    dx[c] = (dy[c] * scale[c] - x[c] * rstd * mean_gx) * rstd;
  }
}

}  // namespace

extern "C" void TOKENNORM_BENCH_LOOPS(const Operands& o) {
  const auto* x = static_cast<const float*>(o.x);
  const auto* update = static_cast<const float*>(o.update);
  const auto* dy = static_cast<const float*>(o.dy);
  const auto* scale = static_cast<const float*>(o.scale);
  const auto* shift = static_cast<const float*>(o.shift);
  auto* sum = static_cast<float*>(o.sum);
  auto* y = static_cast<float*>(o.y);
  const ptrdiff_t channels = o.channels, size = o.tokens * o.channels;
  const Row row{channels, static_cast<float>(o.epsilon), scale, shift};
  switch (o.operation) {
    case Operation::layer_norm:
      for (ptrdiff_t i = 0; i < size; i += channels) {
        layer_norm_row(row, x + i, sum_of(x + i, channels), y + i);
      }
      return;
    case Operation::rms_norm:
      for (ptrdiff_t i = 0; i < size; i += channels) {
        rms_norm_row(row, x + i, squares_of(x + i, channels), y + i);
      }
      return;
    case Operation::layer_norm_residual_add:
      for (ptrdiff_t i = 0; i < size; i += channels) {
        const float total = add_and_sum(x + i, update + i, sum + i, channels);
        layer_norm_row(row, sum + i, total, y + i);
      }
      return;
    case Operation::rms_norm_residual_add:
      for (ptrdiff_t i = 0; i < size; i += channels) {
        const float squares = add_and_square(x + i, update + i, sum + i, channels);
        rms_norm_row(row, sum + i, squares, y + i);
      }
      return;
    case Operation::layer_norm_backward:
      for (ptrdiff_t t = 0; t < o.tokens; ++t) {
        const ptrdiff_t i = t * channels;
        layer_norm_backward_row(x + i, dy + i, scale, o.mean[t], o.rstd[t], channels, y + i,
                                o.scale_gradient, o.shift_gradient);
      }
      return;
    case Operation::rms_norm_backward:
      for (ptrdiff_t t = 0; t < o.tokens; ++t) {
        const ptrdiff_t i = t * channels;
        rms_norm_backward_row(x + i, dy + i, scale, o.rstd[t], channels, y + i, o.scale_gradient);
      }
      return;
    case Operation::layer_norm_unstored_sum:
      return;  // no cell of the table
  }
}
