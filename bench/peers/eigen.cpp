// SPDX-License-Identifier: MIT
// The plain Eigen expressions, as a careful user would write them: row by row, so that a row stays
// in the cache from its statistics to its result. Compiled twice, see CMakeLists.txt.
#include "peers/peer.hpp"

#include <Eigen/Core>

#include <cmath>

namespace {

using Eigen::Index;
using tokennorm::bench::Dtype;
using tokennorm::bench::Operands;
using tokennorm::bench::Operation;

using Row = Eigen::Array<float, 1, Eigen::Dynamic>;
using Rows = Eigen::Array<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Eigen::Map<Rows> rows(const Operands& o, void* data) {
  return {static_cast<float*>(data), o.tokens, o.channels};
}
Eigen::Map<Row> row(const Operands& o, void* data) {
  return {static_cast<float*>(data), o.channels};
}

template <bool centred>
void normalize(const auto& x, const auto& scale, const auto& shift, float epsilon, auto&& y) {
  if constexpr (centred) {
    const float mean = x.mean();
    const float variance = (x - mean).square().mean();
    const float rstd = 1.0f / std::sqrt(variance + epsilon);
    y = (x - mean) * rstd * scale + shift;
  } else {
    const float rstd = 1.0f / std::sqrt(x.square().mean() + epsilon);
    y = x * rstd * scale;
  }
}

template <bool centred>
void forward(const Operands& o) {
  const auto x = rows(o, o.x);
  const auto scale = row(o, o.scale), shift = row(o, o.shift);
  auto y = rows(o, o.y);
  for (Index t = 0; t < o.tokens; ++t) {
    normalize<centred>(x.row(t), scale, shift, static_cast<float>(o.epsilon), y.row(t));
  }
}

template <bool centred>
void residual_add(const Operands& o) {
  const auto residual = rows(o, o.x), update = rows(o, o.update);
  const auto scale = row(o, o.scale), shift = row(o, o.shift);
  auto sum = rows(o, o.sum), y = rows(o, o.y);
  for (Index t = 0; t < o.tokens; ++t) {
    sum.row(t) = residual.row(t) + update.row(t);
    normalize<centred>(sum.row(t), scale, shift, static_cast<float>(o.epsilon), y.row(t));
  }
}

template <bool centred>
void backward(const Operands& o) {
  const auto x = rows(o, o.x), dy = rows(o, o.dy);
  const auto scale = row(o, o.scale);
  auto scale_gradient = row(o, o.scale_gradient), shift_gradient = row(o, o.shift_gradient);
  auto dx = rows(o, o.y);
  for (Index t = 0; t < o.tokens; ++t) {
    const auto out = dy.row(t);
    const float rstd = o.rstd[t];
    if constexpr (centred) {
      const auto normalized = (x.row(t) - o.mean[t]) * rstd;
      const float mean_g = (out * scale).mean();
      const float mean_gx = (out * scale * normalized).mean();
      scale_gradient += out * normalized;
      shift_gradient += out;
      dx.row(t) = (out * scale - mean_g - normalized * mean_gx) * rstd;
    } else {
      const auto normalized = x.row(t) * rstd;
      const float mean_gx = (out * scale * normalized).mean();
      scale_gradient += out * normalized;
      dx.row(t) = (out * scale - normalized * mean_gx) * rstd;
    }
  }
}

void run(const Operands& o) {
  switch (o.operation) {
    case Operation::layer_norm:
      return forward<true>(o);
    case Operation::rms_norm:
      return forward<false>(o);
    case Operation::layer_norm_backward:
      return backward<true>(o);
    case Operation::rms_norm_backward:
      return backward<false>(o);
    case Operation::layer_norm_residual_add:
      return residual_add<true>(o);
    case Operation::rms_norm_residual_add:
      return residual_add<false>(o);
    case Operation::layer_norm_unstored_sum:
      break;  // no cell of the table
  }
}

const char* name(Operation, Dtype dtype) {
  return dtype == Dtype::float32 ? TOKENNORM_BENCH_PEER_NAME : nullptr;
}

std::unique_ptr<tokennorm::bench::Prepared> prepare(const Operands& operands) {
  return tokennorm::bench::prepared([operands] { run(operands); });
}

}  // namespace

extern "C" {
[[gnu::visibility("default")]] extern const tokennorm::bench::Peer TOKENNORM_BENCH_PEER;
const tokennorm::bench::Peer TOKENNORM_BENCH_PEER = {name, prepare};
}
