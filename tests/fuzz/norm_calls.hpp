// SPDX-License-Identifier: MIT
// What the fuzzed calls of norms share: a norm, its surroundings, the results that a call must
// have.
#pragma once

#include "../block/executors.hpp"
#include "../norm/norm_kinds.hpp"
#include "../support/memory_policy.hpp"
#include "bounds.hpp"
#include "operands.hpp"
#include <tokennorm/kernels/simd/isa.hpp>

#include <cmath>
#include <cstdint>
#include <string>

namespace tokennorm::test {

/// The ISA level and the memory policy, until the end of a scope.
class Surroundings {
 public:
  explicit Surroundings(FuzzedCase& fuzzed) : memory_(fuzzed.one_in(3)) {
    constexpr const char* names[] = {"avx512", "avx2", "baseline"};
    const Index level = fuzzed.below(3);
    limit_isa(std::array{Isa::avx512, Isa::avx2, Isa::baseline}[static_cast<std::size_t>(level)]);
    fuzzed.note("ISA level at most", names[level]);
  }
  Surroundings(const Surroundings&) = delete;
  Surroundings& operator=(const Surroundings&) = delete;
  ~Surroundings() { limit_isa(Isa::avx512); }

 private:
  ManagedMemory memory_;
};

inline TestExecutor drawn_executor(FuzzedCase& fuzzed) {
  const Index which = fuzzed.below(50);  // threads are slow
  const Division division = which == 49  ? Division::on_threads
                            : which > 40 ? Division::one_by_one
                            : which > 25 ? Division::odd_pieces_backwards
                                         : Division::whole;
  fuzzed.note("executor", division);
  return {division};
}

/// With any options, and parameters of any kind.
template <class TypedCase>
typename TypedCase::Norm drawn_norm(FuzzedCase& fuzzed, Index channels) {
  using Scalar = typename TypedCase::Scalar;
  typename TypedCase::Options options;
  options.epsilon =
      fuzzed.one_of("epsilon", {1e-5, 0.0, 1e-12, 1.0, 1e-30, 1e-60, 1e30, 1e300, 5e-324});
  options.scale_offset = fuzzed.one_of("scale offset", {0.0, 0.0, 1.0, -0.5});
  options.scale = fuzzed.one_of("scale", {true, true, true, false});
  options.shift = fuzzed.one_of("shift", {true, false});
  if constexpr (requires { options.statistics_channels; }) {
    if (fuzzed.one_in(4)) options.statistics_channels = fuzzed.below(channels + 1);
    fuzzed.note("statistics channels", options.statistics_channels);
  }
  typename TypedCase::Norm norm(channels, options);
  if (options.scale)
    norm.scale() = drawn_tokens<Scalar>(fuzzed, "gamma", {1, channels}, Range::finite).transpose();
  if (options.shift)
    norm.shift() = drawn_tokens<Scalar>(fuzzed, "beta", {1, channels}, Range::finite).transpose();
  return norm;
}

/// Bit by bit, but that all NaN are alike.
template <class A, class B>
bool is_same(const A& a, const B& b) {
  static_assert(std::is_same_v<A, B>);
  if (std::isnan(to_exact(a))) return std::isnan(to_exact(b));
  return std::memcmp(&a, &b, sizeof(A)) == 0;
}

template <class A, class B>
void require_same(const FuzzedCase& fuzzed, const char* what, const A& actual, const B& expected) {
  const auto fail = [&](const std::string& found) {
    fuzzed.require(false, "results have the same bits", [&] { return what + (": " + found); });
  };
  if (actual.rows() != expected.rows() || actual.cols() != expected.cols()) fail("another shape");
  for (Index r = 0; r < actual.rows(); ++r)
    for (Index c = 0; c < actual.cols(); ++c)
      if (!is_same(actual(r, c), expected(r, c))) {
        std::ostringstream found;
        found << "(" << r << ", " << c << ") is " << std::hexfloat << to_exact(actual(r, c))
              << ", expected " << to_exact(expected(r, c));
        fail(found.str());
      }
}

/// Which kernels run: those for contiguous channels, or those for tokens at any stride.
enum class Form { rows, strided };

template <class Matrix, class... Places>
Form form_of(const Places&... places) {
  return Matrix::IsRowMajor && ((places.channel_stride == 1) && ...) ? Form::rows : Form::strided;
}

/// A plain matrix as the type that operands elsewhere have: nothing more to compile.
template <class Matrix>
typename Place<typename Matrix::Scalar>::template Map<Matrix> map_of(Matrix& matrix) {
  return {matrix.data(), matrix.rows(), matrix.cols(), {matrix.outerStride(), 1}};
}

/// Calls f with an empty matrix of the storage order that has the form.
template <class Scalar, class F>
decltype(auto) with_order(Form form, const F& f) {
  using Columns = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;
  return form == Form::rows ? f(TokenMatrix<Scalar>()) : f(Columns());
}

}  // namespace tokennorm::test
