// SPDX-License-Identifier: MIT
// LayerNorm and RMSNorm against PyTorch, forward and backward: tests/golden/make_golden.py made the
// files, from inputs of each dtype, in float64.
//
// Both sides are wrong by a little: for float, half and bfloat16 the expected value is rounded to
// float, for double it is as uncertain as ours. So the documented bounds are doubled, and applied
// γ and β add a rounding each. With u = 2⁻²⁴ (2⁻⁵³ for double):
//
//   y      2·u·(4·|γ|·max(1, max|x̂|) + |γ·x̂| + |y|)
//   dx     16·u·rstd·max|γ·dy|·max(1, max|x̂|)
//   dγ     16·u·Σ|dy|·max(1, max|x̂|)
//   dβ     16·u·Σ|dy|
//
// and y and dx of half and bfloat16 are rounded once more. PyTorch forms x̂ as x·rstd − μ·rstd,
// which costs it 4·2⁻⁵³·rstd·max|x| of x̂ on top, and shows where double meets a constant token.
#include "../norm/norm_kinds.hpp"
#include "../support/worst_case.hpp"
#include <tokennorm/checkpoint/safetensors.hpp>

#include <gtest/gtest.h>

#include <iomanip>
#include <sstream>
#include <string>

namespace tokennorm::test {
namespace {

template <class TypedCase>
class GoldenNorm : public ::testing::Test {
 protected:
  GoldenNorm()
      : file_(Safetensors::open(TOKENNORM_GOLDEN "/" + std::string(kind()) + ".safetensors")) {}

  static const char* kind() { return TypedCase::Kind::centred ? "layer_norm" : "rms_norm"; }
  std::string name(Index channels, const char* tensor) const {
    return scalar_name<typename TypedCase::Scalar>() + "." + std::to_string(channels) + "." +
           tensor;
  }
  /// What PyTorch was given, which has the scalar of the case.
  auto given(Index channels, const char* tensor) const {
    return file_.matrix<typename TypedCase::Scalar>(name(channels, tensor));
  }
  /// What PyTorch found.
  ExactMatrix expected(Index channels, const char* tensor) const {
    return exact(file_.matrix<double>(name(channels, tensor)));
  }

  Safetensors file_;
};

TYPED_TEST_SUITE(GoldenNorm, AllCases, CaseName);

template <class Found>
void expect_near(const char* what, const Found& found, const ExactMatrix& expected,
                 const ExactMatrix& bound) {
  ASSERT_EQ(found.rows(), expected.rows()) << what;
  ASSERT_EQ(found.cols(), expected.cols()) << what;
  ManyExpectations expectations;
  for (Index t = 0; t < found.rows(); ++t)
    for (Index c = 0; c < found.cols(); ++c)
      expectations.expect(rounds_from(found(t, c), expected(t, c), bound(t, c)), [&] {
        std::ostringstream text;
        text << std::setprecision(17) << what << '(' << t << ", " << c << ") is "
             << to_exact(found(t, c)) << "; PyTorch has " << expected(t, c) << " ± " << bound(t, c);
        return text.str();
      });
}

TYPED_TEST(GoldenNorm, IsPyTorchs) {
  for (const Index channels : {1, 3, 17, 31, 33, 100, 257}) {
    SCOPED_TRACE(channels);
    const auto given = [&](const char* tensor) { return this->given(channels, tensor); };
    const auto expected = [&](const char* tensor) { return this->expected(channels, tensor); };
    typename TypeParam::Norm norm(channels, affine_options<typename TypeParam::Kind>(
                                                std::stod(this->file_.metadata().at("epsilon"))));
    norm.scale() = given("scale").transpose();
    norm.shift() = given("shift").transpose();
    const auto x = given("x"), dy = given("dy");
    typename TypeParam::RowMajor y, dx;
    typename TypeParam::Statistics stats;
    typename TypeParam::Gradients gradients;
    norm.normalize(x, y, stats);
    norm.backpropagate(x, stats, dy, dx, gradients);

    const long double u = unit<typename TypeParam::Scalar>();
    const ForwardOracle forward = forward_oracle_of(norm, exact(x));
    const BackwardOracle backward = backward_oracle_of(norm, exact(x), exact(dy));
    const ExactMatrix scale = exact_vector(norm.scale()).cwiseAbs().transpose();
    const ExactMatrix product = forward.normalized * scale.row(0).asDiagonal();
    const ExactMatrix spread = forward.largest.cwiseMax(1) * scale;
    const ExactVector theirs =  // of x̂
        0x4p-53L * forward.rstd.cwiseProduct(exact(x).cwiseAbs().rowwise().maxCoeff());
    const ExactVector theirs_in_dx =
        theirs.cwiseProduct(backward.dx_size.cwiseQuotient(forward.largest.cwiseMax(1)));
    const ExactVector theirs_in_scale = exact(dy).cwiseAbs().transpose() * theirs;
    expect_near("y", y, expected("y"),
                2 * u * (4 * spread + product.cwiseAbs() + forward.y.cwiseAbs()) + theirs * scale);
    expect_near("dx", dx, expected("dx"),
                (16 * u * backward.dx_size + theirs_in_dx).replicate(1, channels));
    expect_near("dγ", gradients.scale, expected("dscale").transpose(),
                16 * u * backward.scale_size + theirs_in_scale);
    expect_near("dβ", gradients.shift, expected("dshift").transpose(),
                16 * u * backward.shift_size);
  }
}

}  // namespace
}  // namespace tokennorm::test
