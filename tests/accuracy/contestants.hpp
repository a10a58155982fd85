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

/// What all are given, in long double; and the exact statistics.
struct Problem {
  bool backward;
  double epsilon;
  ExactVector scale, shift;  ///< empty: the norm has none
  ExactMatrix x, dy;         ///< dy of a backward
  ForwardOracle forward;
};

template <class Matrix>
[[gnu::noinline]] Matrix from_exact(const ExactMatrix& values) {
  using Scalar = typename Matrix::Scalar;
  return values.unaryExpr([](long double value) { return finite<Scalar>(value); });
}

/// A forward or a backward of a peer. It is given the exact statistics, rounded once; a parameter
/// that the norm lacks is 1 or 0. Nothing where it has no such operation.
template <class TypedCase>
[[gnu::noinline]] std::optional<ExactStep> peer_step(const bench::Peer& peer,
                                                     const Problem& problem) {
  using Tokens = typename TypedCase::RowMajor;
  using Vector = typename TypedCase::Vector;
  using bench::Operation;
  constexpr bool centred = TypedCase::Kind::centred;
  bench::Operands operands{};
  operands.operation =
      problem.backward ? (centred ? Operation::layer_norm_backward : Operation::rms_norm_backward)
                       : (centred ? Operation::layer_norm : Operation::rms_norm);
  operands.dtype = dtype_of<typename TypedCase::Scalar>();
  operands.tokens = problem.x.rows();
  operands.channels = problem.x.cols();
  operands.epsilon = problem.epsilon;
  // A mean over one channel is none to oneDNN.
  if (operands.channels == 1 || peer.name(operands.operation, operands.dtype) == nullptr) return {};

  auto x = from_exact<Tokens>(problem.x), result = x;
  Tokens dy;
  Vector scale = Vector::Ones(x.cols()), shift = Vector::Zero(x.cols());
  if (problem.scale.size() > 0) scale = from_exact<Vector>(problem.scale);
  if (problem.shift.size() > 0) shift = from_exact<Vector>(problem.shift);
  Eigen::VectorXf mean = problem.forward.mean.cast<float>();
  Eigen::VectorXf rstd = problem.forward.rstd.cast<float>();
  Eigen::VectorXf scale_gradient = Eigen::VectorXf::Zero(x.cols());
  Eigen::VectorXf shift_gradient = Eigen::VectorXf::Zero(x.cols());
  operands.x = x.data();
  operands.y = result.data();
  operands.scale = scale.data();
  operands.shift = shift.data();
  if (problem.backward) {
    dy = from_exact<Tokens>(problem.dy);
    operands.dy = dy.data();
    operands.mean = mean.data();
    operands.rstd = rstd.data();
    operands.scale_gradient = scale_gradient.data();
    operands.shift_gradient = shift_gradient.data();
  }
  peer.prepare(operands)->call();

  ExactStep step;
  (problem.backward ? step.dx : step.y) = exact(result);
  step.scale = exact_vector(scale_gradient);
  step.shift = exact_vector(shift_gradient);
  return step;
}

/// The same of any contestant: tokennorm in both storage orders.
template <class TypedCase>
[[gnu::noinline]] std::vector<ExactStep> steps_of(const Contestant& contestant,
                                                  const Problem& problem) {
  using Vector = typename TypedCase::Vector;
  std::vector<ExactStep> steps;
  if (contestant.peer != nullptr) {
    if (auto step = peer_step<TypedCase>(*contestant.peer, problem)) steps.push_back(*step);
    return steps;
  }
  limit_isa(contestant.level);
  auto options = plain_options<typename TypedCase::Kind>(problem.epsilon);
  options.scale = problem.scale.size() > 0;
  options.shift = problem.shift.size() > 0;
  typename TypedCase::Norm norm(problem.x.cols(), options);
  if (options.scale) norm.scale() = from_exact<Vector>(problem.scale);
  if (options.shift) norm.shift() = from_exact<Vector>(problem.shift);
  const auto x = from_exact<typename TypedCase::RowMajor>(problem.x);
  if (problem.backward) {
    return exact_steps_in_both_orders(norm, x,
                                      from_exact<typename TypedCase::RowMajor>(problem.dy));
  }
  steps.resize(2);
  steps[0].y = exact(norm(x));
  steps[1].y = exact(norm(typename TypedCase::ColMajor(x)));
  return steps;
}

}  // namespace tokennorm::test
