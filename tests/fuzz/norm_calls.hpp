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

template <class... Places>
Form form_of(const Places&... places) {
  return ((places.channel_stride == 1) && ...) ? Form::rows : Form::strided;
}

/// As maps in rows, whose strides are whatever they are: one type for both forms.
template <class Scalar>
auto rows_of(const Place<Scalar>& place) {
  return place.template as<TokenMatrix<Scalar>>();
}

/// Memory of its own for values, in rows or, for the other kernels, in columns.
template <class Scalar>
class Plain {
 public:
  Plain(Form form, const TokenMatrix<Scalar>& values)
      : shape_{values.rows(), values.cols()},
        form_(form),
        memory_(std::max<Index>(2, values.rows()) * values.cols()) {
    place().fill(values);
  }
  Place<Scalar> place() {
    if (form_ == Form::rows) return {memory_.data(), shape_, shape_.channels, 1};
    return {memory_.data(), shape_, 1, std::max<Index>(2, shape_.tokens)};
  }

 private:
  Shape shape_;
  Form form_;
  Eigen::Matrix<Scalar, Eigen::Dynamic, 1> memory_;
};

/// The results of plain matrices without an executor.
template <class TypedCase>
struct Results {
  using Scalar = typename TypedCase::Scalar;
  TokenMatrix<Scalar> y, dx;
  typename TypedCase::Statistics stats;
  typename TypedCase::Gradients g;
  typename TypedCase::RowMajor sum;  // of a fused one

  ExactStep exactly() const { return exact_results(y, dx, stats, g); }
};

template <class TypedCase, class Norm, class Tokens>
void normalize_plainly(const Norm& norm, Form form, const Tokens& x, Results<TypedCase>& results) {
  Plain from(form, x), to(form, x);
  auto y = rows_of(to.place());
  norm.normalize(rows_of(from.place()), y, results.stats);
  results.y = y;
}

template <class TypedCase, class Norm, class Tokens>
void backpropagate_plainly(const Norm& norm, Form form, const Tokens& x, const Tokens& dy,
                           Results<TypedCase>& results) {
  Plain from(form, x), gradient(form, dy), to(form, x);
  auto dx = rows_of(to.place());
  norm.backpropagate(rows_of(from.place()), results.stats, rows_of(gradient.place()), dx,
                     results.g);
  results.dx = dx;
}

/// But that where dy is so large that float does not hold its sums, and what they are taken from is
/// overwritten, they are taken before, in another order; as are those of a partial norm, whose x̂
/// may be large. `expected` then becomes what was found, to be judged by the bounds.
template <class Norm, class X, class DY, class Gradients>
void require_same_gradients(const FuzzedCase& fuzzed, const Norm& norm, const X& x, const DY& dy,
                            bool is_overwritten, const Gradients& actual, Gradients& expected) {
  const bool may_be_huge = spec_of(norm.options()).statistics_channels != 0 ||
                           !exact(x).allFinite() ||
                           !(exact(dy).cwiseAbs().array() <= 0x1p64L).all();
  if (is_overwritten && may_be_huge) {
    expected = actual;
  } else {
    require_same(fuzzed, "dgamma", actual.scale, expected.scale);
    require_same(fuzzed, "dbeta", actual.shift, expected.shift);
  }
}

/// Calls f.operator()<Case>() with one of the cases.
template <class... Cases, class F>
void run_some_case(FuzzedCase& fuzzed, ::testing::Types<Cases...>, const F& f) {
  const auto run = [&]<class TypedCase>(TypedCase*) {
    fuzzed.note("norm", CaseName::GetName<TypedCase>(0));
    f.template operator()<TypedCase>();
  };
  Index which = fuzzed.below(sizeof...(Cases));
  ((which-- == 0 ? run(static_cast<Cases*>(nullptr)) : void()), ...);
}

}  // namespace tokennorm::test
