// SPDX-License-Identifier: MIT
// Who is in the accuracy table: tokennorm at each instruction set level of the machine, and the
// libraries that the benchmarks know, through the same bench/peers.
#pragma once

#include "../norm/exact_step.hpp"
#include "../norm/norm_kinds.hpp"
#include "peers/peer.hpp"
#include <tokennorm/kernels/simd/isa.hpp>

#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

extern "C" {
extern const tokennorm::bench::Peer tokennorm_bench_onednn;
extern const tokennorm::bench::Peer tokennorm_bench_libtorch;
}

namespace tokennorm::test {

/// A level, or else a peer.
struct Contestant {
  std::string name;
  Isa level = Isa::baseline;
  const bench::Peer* peer = nullptr;
};

/// The levels are those of the machine, or up to TOKENNORM_ISA.
inline std::vector<Contestant> contestants() {
  std::vector<Contestant> all;
  for (const auto& [name, level] :
       {std::pair("baseline", Isa::baseline), std::pair("AVX2", Isa::avx2),
        std::pair("AVX-512", Isa::avx512)}) {
    limit_isa(level);
    if (isa() == level) all.push_back({name, level});
  }
#if defined(TOKENNORM_BENCH_ONEDNN)
  all.push_back({"oneDNN", Isa::baseline, &tokennorm_bench_onednn});
#endif
#if defined(TOKENNORM_BENCH_LIBTORCH)
  all.push_back({"libtorch", Isa::baseline, &tokennorm_bench_libtorch});
#endif
  return all;
}

template <class Scalar>
constexpr bench::Dtype dtype_of() {
  if constexpr (std::is_same_v<Scalar, float>) return bench::Dtype::float32;
  if constexpr (std::is_same_v<Scalar, double>) return bench::Dtype::float64;
  if constexpr (std::is_same_v<Scalar, Eigen::half>) return bench::Dtype::float16;
  if constexpr (std::is_same_v<Scalar, Eigen::bfloat16>) return bench::Dtype::bfloat16;
}

/// The tokens that all are given, and what is known about them.
template <class TypedCase>
struct Problem {
  const typename TypedCase::Norm& norm;
  typename TypedCase::RowMajor x, dy;
  ForwardOracle forward;
};

/// A forward, or with `backward` a backward, of a peer. It is given the exact statistics, rounded
/// once; a parameter that the norm lacks is 1 or 0. Nothing where it has no such operation.
template <class TypedCase>
[[gnu::noinline]] std::optional<ExactStep> peer_step(const bench::Peer& peer,
                                                     const Problem<TypedCase>& problem,
                                                     bool backward) {
  using Scalar = typename TypedCase::Scalar;
  using bench::Operation;
  constexpr bool centred = TypedCase::Kind::centred;
  const Operation operation =
      backward ? (centred ? Operation::layer_norm_backward : Operation::rms_norm_backward)
               : (centred ? Operation::layer_norm : Operation::rms_norm);
  const Index tokens = problem.x.rows(), channels = problem.x.cols();
  // A mean over one channel is none to oneDNN.
  if (channels == 1 || peer.name(operation, dtype_of<Scalar>()) == nullptr) return {};

  const auto& norm = problem.norm;
  auto x = problem.x, dy = problem.dy, result = problem.x;
  typename TypedCase::Vector scale = norm.scale(), shift = norm.shift();
  if (scale.size() == 0) scale = TypedCase::Vector::Ones(channels);
  if (shift.size() == 0) shift = TypedCase::Vector::Zero(channels);
  Eigen::VectorXf mean = problem.forward.mean.template cast<float>();
  Eigen::VectorXf rstd = problem.forward.rstd.template cast<float>();
  Eigen::VectorXf scale_gradient = Eigen::VectorXf::Zero(channels);
  Eigen::VectorXf shift_gradient = Eigen::VectorXf::Zero(channels);
  bench::Operands operands{};
  operands.operation = operation;
  operands.dtype = dtype_of<Scalar>();
  operands.tokens = tokens;
  operands.channels = channels;
  operands.epsilon = norm.options().epsilon;
  operands.x = x.data();
  operands.y = result.data();
  operands.scale = scale.data();
  operands.shift = shift.data();
  if (backward) {
    operands.dy = dy.data();
    operands.mean = mean.data();
    operands.rstd = rstd.data();
    operands.scale_gradient = scale_gradient.data();
    operands.shift_gradient = shift_gradient.data();
  }
  peer.prepare(operands)->call();

  ExactStep step;
  (backward ? step.dx : step.y) = exact(result);
  step.scale = exact_vector(scale_gradient);
  step.shift = exact_vector(shift_gradient);
  return step;
}

/// The same of any contestant: tokennorm in both storage orders.
template <class TypedCase>
[[gnu::noinline]] std::vector<ExactStep> steps_of(const Contestant& contestant,
                                                  const Problem<TypedCase>& problem,
                                                  bool backward) {
  std::vector<ExactStep> steps;
  if (contestant.peer != nullptr) {
    if (auto step = peer_step(*contestant.peer, problem, backward)) steps.push_back(*step);
    return steps;
  }
  limit_isa(contestant.level);
  if (backward) return exact_steps_in_both_orders(problem.norm, problem.x, problem.dy);
  steps.resize(2);
  steps[0].y = exact(problem.norm(problem.x));
  steps[1].y = exact(problem.norm(typename TypedCase::ColMajor(problem.x)));
  return steps;
}

}  // namespace tokennorm::test
