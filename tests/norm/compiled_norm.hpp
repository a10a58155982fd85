// SPDX-License-Identifier: MIT
// The norms of the typed tests, compiled once. A kernel takes seconds to compile, for several ISA
// levels, and every file of tests that calls LayerNorm<float> itself pays for it again. These call
// it in compiled_norm_*.cpp, through views with run-time strides, and are used in the same way.
//
//   const CompiledNorm<TypeParam> norm = random_affine<TypeParam>(channels);
//   norm(x, y);
//
// x, y, …: matrices, arrays, maps or blocks of the case's scalar and of any strides. Row-major ones
// go to the library as row-major views, column-major ones as column-major views; a mixture as
// row-major views with the strides that fit.
#pragma once

#include "../support/random_tokens.hpp"
#include "norm_kinds.hpp"

#include <Eigen/Core>

#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm::test {

/// Any executor.
struct TestExecutor {
  using Work = std::function<void(Index begin, Index end)>;
  std::function<void(Index count, Index grain, const Work& work)> run;

  template <class F>
  void parallel_for(Index count, Index grain, F&& f) const {
    run(count, grain, [&f](Index begin, Index end) { f(begin, end); });
  }
};

template <class Element, int Order>
using StridedView =
    Eigen::Map<std::conditional_t<std::is_const_v<Element>,
                                  const Eigen::Matrix<std::remove_const_t<Element>, Eigen::Dynamic,
                                                      Eigen::Dynamic, Order>,
                                  Eigen::Matrix<Element, Eigen::Dynamic, Eigen::Dynamic, Order>>,
               Eigen::Unaligned, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;

/// `operand` as a view of that order, whatever its own.
template <int Order, class Operand>
auto strided_view(Operand&& operand) {
  using Element = std::remove_pointer_t<decltype(operand.data())>;
  constexpr bool same_order = bool(std::decay_t<Operand>::IsRowMajor) == (Order == Eigen::RowMajor);
  const Index outer = operand.outerStride(), inner = operand.innerStride();
  return StridedView<Element, Order>(operand.data(), operand.rows(), operand.cols(),
                                     Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>(
                                         same_order ? outer : inner, same_order ? inner : outer));
}

template <class... Operands>
inline constexpr int common_order = ((!std::decay_t<Operands>::IsRowMajor) && ...)
                                        ? int(Eigen::ColMajor)
                                        : int(Eigen::RowMajor);

/// Gives an output that owns its memory the shape of `x`, as the library would.
template <class Y, class X>
void resize_like(Y& y, const X& x) {
  if constexpr (std::is_base_of_v<Eigen::PlainObjectBase<Y>, Y>) y.resize(x.rows(), x.cols());
}

/// The calls of a norm with every operand in one order. In compiled_calls.hpp, instantiated in
/// compiled_norm_*.cpp.
template <class TypedCase, int Order>
struct NormCalls {
  using Norm = typename TypedCase::Norm;
  using Statistics = typename TypedCase::Statistics;
  using Gradients = typename TypedCase::Gradients;
  using In = StridedView<const typename TypedCase::Scalar, Order>;
  using Out = StridedView<typename TypedCase::Scalar, Order>;

  static void infer(const Norm& norm, In x, Out y, const TestExecutor* executor);
  static void normalize(const Norm& norm, In x, Out y, Statistics& stats,
                        const TestExecutor* executor);
  static void backpropagate(const Norm& norm, In x, const Statistics& stats, In dy, Out dx,
                            Gradients& g, const TestExecutor* executor);
};

/// The fused residual calls, with or without statistics.
template <class TypedCase, int Order>
struct SumCalls {
  using Norm = typename TypedCase::Norm;
  using Statistics = typename TypedCase::Statistics;
  using Gradients = typename TypedCase::Gradients;
  using In = StridedView<const typename TypedCase::Scalar, Order>;
  using Out = StridedView<typename TypedCase::Scalar, Order>;

  static void normalize_sum(const Norm& norm, In residual, In update, Out sum, Out y,
                            Statistics* stats, const TestExecutor* executor);
  static void normalize_unstored_sum(const Norm& norm, In residual, In update, Out y,
                                     Statistics* stats, const TestExecutor* executor);
  static void backpropagate_sum(const Norm& norm, In sum, const Statistics& stats, In dy, In dsum,
                                Out dx, Gradients& g, const TestExecutor* executor);
};

template <class TypedCase>
class CompiledNorm {
 public:
  using Vector = typename TypedCase::Vector;
  using Statistics = typename TypedCase::Statistics;
  using Gradients = typename TypedCase::Gradients;

  CompiledNorm(typename TypedCase::Norm norm) : norm_(std::move(norm)) {}
  explicit CompiledNorm(Index channels, typename TypedCase::Options options = {})
      : norm_(channels, options) {}

  Index channels() const { return norm_.channels(); }
  const typename TypedCase::Options& options() const { return norm_.options(); }
  Vector& scale() { return norm_.scale(); }
  Vector& shift() { return norm_.shift(); }
  const Vector& scale() const { return norm_.scale(); }
  const Vector& shift() const { return norm_.shift(); }

  template <class X>
  [[gnu::noinline]] typename X::PlainObject operator()(const X& x) const {
    typename X::PlainObject y(x.rows(), x.cols());
    (*this)(x, y);
    return y;
  }
  template <class X, class Y>
  [[gnu::noinline]] void operator()(const X& x, Y&& y,
                                    const TestExecutor* executor = nullptr) const {
    constexpr int order = common_order<X, Y>;
    resize_like(y, x);
    NormCalls<TypedCase, order>::infer(norm_, strided_view<order>(x), strided_view<order>(y),
                                       executor);
  }
  template <class X, class Y>
  [[gnu::noinline]] void normalize(const X& x, Y&& y, Statistics& stats,
                                   const TestExecutor* executor = nullptr) const {
    constexpr int order = common_order<X, Y>;
    resize_like(y, x);
    NormCalls<TypedCase, order>::normalize(norm_, strided_view<order>(x), strided_view<order>(y),
                                           stats, executor);
  }
  template <class X, class DY, class DX>
  [[gnu::noinline]] void backpropagate(const X& x, const Statistics& stats, const DY& dy, DX&& dx,
                                       Gradients& g, const TestExecutor* executor = nullptr) const {
    constexpr int order = common_order<X, DY, DX>;
    resize_like(dx, x);
    NormCalls<TypedCase, order>::backpropagate(norm_, strided_view<order>(x), stats,
                                               strided_view<order>(dy), strided_view<order>(dx), g,
                                               executor);
  }

  // Only for FusedCases. `stats` may be null.
  template <class R, class U, class S, class Y>
  [[gnu::noinline]] void normalize_sum(const R& residual, const U& update, S&& sum, Y&& y,
                                       Statistics* stats = nullptr,
                                       const TestExecutor* executor = nullptr) const {
    constexpr int order = common_order<R, U, S, Y>;
    resize_like(sum, residual);
    resize_like(y, residual);
    SumCalls<TypedCase, order>::normalize_sum(norm_, strided_view<order>(residual),
                                              strided_view<order>(update), strided_view<order>(sum),
                                              strided_view<order>(y), stats, executor);
  }
  template <class R, class U, class Y>
  [[gnu::noinline]] void normalize_unstored_sum(const R& residual, const U& update, Y&& y,
                                                Statistics* stats = nullptr,
                                                const TestExecutor* executor = nullptr) const {
    constexpr int order = common_order<R, U, Y>;
    resize_like(y, residual);
    SumCalls<TypedCase, order>::normalize_unstored_sum(norm_, strided_view<order>(residual),
                                                       strided_view<order>(update),
                                                       strided_view<order>(y), stats, executor);
  }
  template <class S, class DY, class DS, class DX>
  [[gnu::noinline]] void backpropagate_sum(const S& sum, const Statistics& stats, const DY& dy,
                                           const DS& dsum, DX&& dx, Gradients& g,
                                           const TestExecutor* executor = nullptr) const {
    constexpr int order = common_order<S, DY, DS, DX>;
    resize_like(dx, sum);
    SumCalls<TypedCase, order>::backpropagate_sum(
        norm_, strided_view<order>(sum), stats, strided_view<order>(dy), strided_view<order>(dsum),
        strided_view<order>(dx), g, executor);
  }

 private:
  typename TypedCase::Norm norm_;
};

/// Each kind and each scalar, not each with each.
using FusedCases = ::testing::Types<Case<LayerKind, float>, Case<RMSKind, double>,
                                    Case<RMSKind, Eigen::half>, Case<LayerKind, Eigen::bfloat16>>;

/// All that a training step gives, in long double, to be judged without a template per scalar.
struct ExactStep {
  std::string order;
  ExactMatrix y, dx;
  ExactVector mean, rstd, scale, shift;  ///< of the tokens; the gradients of the channels
};

struct AsEver {};

/// An Environment, made of the arguments, lives during the calls and not in what follows: by it the
/// processor works in another way, which the oracle must not see.
template <class Matrix, class Environment = AsEver, class TypedCase, class... Arguments>
[[gnu::noinline]] ExactStep exact_step(const CompiledNorm<TypedCase>& norm, const Matrix& x,
                                       const Matrix& dy, Arguments... arguments) {
  Matrix y, dx;
  typename TypedCase::Statistics stats;
  typename TypedCase::Gradients g;
  {
    [[maybe_unused]] const Environment environment{arguments...};
    norm.normalize(x, y, stats);
    norm.backpropagate(x, stats, dy, dx, g);
  }
  return {Matrix::IsRowMajor ? "row-major" : "column-major",
          exact(y),
          exact(dx),
          exact_vector(stats.mean),
          exact_vector(stats.rstd),
          exact_vector(g.scale),
          exact_vector(g.shift)};
}

template <class TypedCase>
[[gnu::noinline]] std::vector<ExactStep> exact_steps_in_both_orders(
    const CompiledNorm<TypedCase>& norm, const typename TypedCase::RowMajor& x,
    const typename TypedCase::RowMajor& dy) {
  return {exact_step<typename TypedCase::RowMajor>(norm, x, dy),
          exact_step<typename TypedCase::ColMajor>(norm, x, dy)};
}

/// A norm with scale and shift drawn at random.
template <class TypedCase>
[[gnu::noinline]] CompiledNorm<TypedCase> random_affine(Index channels, Seed seed,
                                                        typename TypedCase::Options options) {
  return random_norm<TypedCase>(channels, seed, options);
}

template <class TypedCase>
[[gnu::noinline]] CompiledNorm<TypedCase> random_affine(Index channels, Seed seed = {7}) {
  return random_norm<TypedCase>(channels, seed, affine_options<typename TypedCase::Kind>());
}

}  // namespace tokennorm::test
