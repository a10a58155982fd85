// SPDX-License-Identifier: MIT
// Every placement behind one interface, so that each is compiled once for all tests. The sublayers
// are a CausalMean and a Linear; LayerNorm and RMSNorm stand mixed.
#pragma once

#include "../norm/norm_kinds.hpp"
#include "executors.hpp"
#include "sublayers.hpp"
#include <tokennorm/block/residual_stream.hpp>

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace tokennorm::test {

template <class Scalar>
class TestBlock {
 public:
  using Tokens = TokenMatrix<Scalar>;
  using VectorMap = Eigen::Map<Eigen::Matrix<Scalar, Eigen::Dynamic, 1>>;
  using Visitor = std::function<void(const std::string&, VectorMap value, VectorMap gradient)>;

  virtual ~TestBlock() = default;
  virtual std::unique_ptr<TestBlock> clone() const = 0;
  /// *this = other, which is of the same placement.
  virtual void assign(const TestBlock& other) = 0;

  virtual Tokens operator()(const Tokens& x) const = 0;
  virtual void operator()(const Tokens& x, Tokens& y, Workspace<Scalar>& workspace) const = 0;
  virtual void operator()(const Tokens& x, Tokens& y, Workspace<Scalar>& workspace,
                          const TestExecutor& executor) const = 0;
  virtual ExactMatrix exact(const ExactMatrix& x) const = 0;
  virtual Tokens step_by_step(const Tokens& x) const = 0;

  /// Training is compiled for double alone.
  virtual Tokens forward(const Tokens& x) = 0;
  virtual Tokens backward(const Tokens& dy) = 0;
  virtual Tokens forward(const Tokens& x, const TestExecutor& executor) = 0;
  virtual Tokens backward(const Tokens& dy, const TestExecutor& executor) = 0;
  virtual void visit_parameters(const Visitor& visitor) = 0;
  virtual void zero_gradients() = 0;
};

inline const std::vector<std::string>& placement_names() {
  static const std::vector<std::string> names = {"PreLNResidual",
                                                 "PostLNResidual",
                                                 "SandwichLNResidual",
                                                 "PreLN",
                                                 "StackOfPreLN",
                                                 "StackOfPreLNWithoutNorms",
                                                 "PostLN",
                                                 "StackOfPostLN",
                                                 "SandwichLN",
                                                 "StackOfSandwichLN"};
  return names;
}

/// What a file does not know it leaves null.
template <class Scalar>
std::unique_ptr<TestBlock<Scalar>> make_residual(const std::string& placement, Index channels);
template <class Scalar>
std::unique_ptr<TestBlock<Scalar>> make_pre_ln(const std::string& placement, Index channels);
template <class Scalar>
std::unique_ptr<TestBlock<Scalar>> make_post_ln(const std::string& placement, Index channels);
template <class Scalar>
std::unique_ptr<TestBlock<Scalar>> make_sandwich_ln(const std::string& placement, Index channels);

template <class Scalar>
std::unique_ptr<TestBlock<Scalar>> make_block(const std::string& placement, Index channels) {
  for (auto* const make :
       {make_residual<Scalar>, make_pre_ln<Scalar>, make_post_ln<Scalar>, make_sandwich_ln<Scalar>})
    if (auto block = make(placement, channels)) return block;
  throw std::invalid_argument("no placement is called " + placement);
}

/// A test of every placement.
class Placements : public ::testing::TestWithParam<std::string> {
 protected:
  template <class Scalar = double>
  static std::unique_ptr<TestBlock<Scalar>> make(Index channels) {
    return make_block<Scalar>(GetParam(), channels);
  }
};

/// Names a test after its placement.
inline std::string placement_of(const ::testing::TestParamInfo<std::string>& test) {
  return test.param;
}

#define TOKENNORM_TEST_EVERY_PLACEMENT(suite) \
  INSTANTIATE_TEST_SUITE_P(Every, suite, ::testing::ValuesIn(placement_names()), placement_of)

/// Norms with random parameters.
template <class Scalar>
LayerNorm<Scalar> layer_norm(Index channels, Seed seed) {
  return random_norm<Case<LayerKind, Scalar>>(channels, seed);
}
template <class Scalar>
RMSNorm<Scalar> rms_norm(Index channels, Seed seed) {
  return random_norm<Case<RMSKind, Scalar>>(channels, seed, RMSNormOptions{});
}
/// With an offset on the scale, and a shift.
template <class Scalar>
RMSNorm<Scalar> offset_norm(Index channels, Seed seed) {
  RMSNormOptions options = affine_options<RMSKind>(1e-4);
  options.scale_offset = 1;
  return random_norm<Case<RMSKind, Scalar>>(channels, seed, options);
}

}  // namespace tokennorm::test
