// SPDX-License-Identifier: MIT
// tokennorm itself, through the calls that every revision has: this one beside another, for
// bench/run.sh --against. Compiled twice, see CMakeLists.txt.
#include "peers/peer.hpp"
#include <tokennorm/core/tokens.hpp>
#include <tokennorm/norm/layer_norm.hpp>
#include <tokennorm/norm/rms_norm.hpp>

#include <Eigen/Core>

#include <cstring>
#include <memory>
#include <type_traits>

namespace {

using tokennorm::bench::Dtype;
using tokennorm::bench::Operands;
using tokennorm::bench::Operation;

template <class Scalar>
auto view(const Operands& o, void* data) {
  return tokennorm::tokens(static_cast<Scalar*>(data), o.tokens, o.channels);
}

template <class Norm>
Norm norm_of(const Operands& o) {
  Norm norm(o.channels, {.epsilon = o.epsilon});
  const auto copy = [](auto& to, const void* from) {
    std::memcpy(to.data(), from, static_cast<std::size_t>(to.size()) * sizeof(*to.data()));
  };
  copy(norm.scale(), o.scale);
  if (norm.shift().size() > 0) copy(norm.shift(), o.shift);
  return norm;
}

/// The gradients and statistics are the library's own.
template <class Norm>
struct Saved {
  tokennorm::TokenStatistics<float> stats;
  tokennorm::NormGradients<float> gradients;
};

template <template <class, int> class Norm, class Scalar>
std::unique_ptr<tokennorm::bench::Prepared> prepare_norm(const Operands& o) {
  using N = Norm<float, Eigen::Dynamic>;
  const N norm = norm_of<N>(o);
  const auto x = view<const Scalar>(o, o.x);
  const auto y = view<Scalar>(o, o.y);
  switch (o.operation) {
    case Operation::layer_norm:
    case Operation::rms_norm:
      return tokennorm::bench::prepared([=] {
        auto result = y;
        norm(x, result);
      });
    default:
      break;
  }
  if constexpr (std::is_same_v<Scalar, float>) {
    const auto update = view<const float>(o, o.update);
    switch (o.operation) {
      case Operation::layer_norm_residual_add:
      case Operation::rms_norm_residual_add:
        return tokennorm::bench::prepared([=, sum = view<float>(o, o.sum)] {
          auto stored = sum, result = y;
          norm.normalize_sum(x, update, stored, result);
        });
      case Operation::layer_norm_unstored_sum:
        return tokennorm::bench::prepared([=] {
          auto result = y;
          norm.normalize_sum(x, update, result);
        });
      default: {
        auto saved = std::make_shared<Saved<N>>();
        tokennorm::TokenMatrix<float> normed;
        norm.normalize(x, normed, saved->stats);
        return tokennorm::bench::prepared([=, dy = view<const float>(o, o.dy)] {
          auto dx = y;
          norm.backpropagate(x, saved->stats, dy, dx, saved->gradients);
        });
      }
    }
  }
  return nullptr;
}

std::unique_ptr<tokennorm::bench::Prepared> prepare(const Operands& o) {
  using tokennorm::LayerNorm, tokennorm::RMSNorm;
  const bool is_centred = tokennorm::bench::is_centred(o.operation);
  if (o.dtype == Dtype::bfloat16) {
    return is_centred ? prepare_norm<LayerNorm, Eigen::bfloat16>(o)
                      : prepare_norm<RMSNorm, Eigen::bfloat16>(o);
  }
  return is_centred ? prepare_norm<LayerNorm, float>(o) : prepare_norm<RMSNorm, float>(o);
}

const char* name(Operation, Dtype) { return TOKENNORM_BENCH_PEER_NAME; }

}  // namespace

extern "C" {
[[gnu::visibility("default")]] extern const tokennorm::bench::Peer TOKENNORM_BENCH_PEER;
const tokennorm::bench::Peer TOKENNORM_BENCH_PEER = {name, prepare};
}
