// SPDX-License-Identifier: MIT
#include "every_call.hpp"

#include "../support/random_tokens.hpp"
#include <tokennorm/tokennorm.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace tokennorm::test {
namespace {

template <class Scalar>
using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;

template <class Scalar, class Norm>
Norm with_random_parameters(Norm norm, Seed seed) {
  norm.scale() = random_vector<double>(norm.channels(), seed, 1).template cast<Scalar>();
  if (norm.shift().size() > 0)
    norm.shift() =
        random_vector<double>(norm.channels(), Seed{seed.value + 1}).template cast<Scalar>();
  return norm;
}

/// f(x) = x³/4, token by token and channel by channel.
template <class Scalar>
class Cube {
 public:
  using Tokens = TokenMatrix<Scalar>;
  Tokens operator()(const Tokens& x) const { return x.array().cube() / 4; }
  Tokens forward(const Tokens& x) {
    x_ = x;
    return (*this)(x);
  }
  Tokens backward(const Tokens& dy) const { return 3 * x_.array().square() / 4 * dy.array(); }

 private:
  Tokens x_;
};

/// Makes the calls, each with the same operands, and keeps what they write.
template <class Scalar>
class Caller {
 public:
  using Tokens = TokenMatrix<Scalar>;
  using Statistics = TokenStatistics<Accumulator<Scalar>>;
  using Gradients = NormGradients<Accumulator<Scalar>>;

  Caller(Shape shape, const AnyExecutor& executor)
      : executor_(executor),
        x_(random_normal<TokenMatrix<double>>(shape, Seed{701}, 1).template cast<Scalar>()),
        dy_(random_normal<TokenMatrix<double>>(shape, Seed{702}).template cast<Scalar>()) {}

  template <class Norm>
  void call_norm(const std::string& name, Norm norm) {
    Tokens y, sum, dx;
    Statistics stats;
    Gradients gradients;
    keep(name + "(x)", norm(x_, executor_));
    norm(x_, y, executor_);
    keep(name + "(x, y)", y);
    norm.normalize(x_, y, stats, executor_);
    keep(name + ".normalize", y, stats);
    norm.backpropagate(x_, stats, dy_, dx, gradients, executor_);
    keep(name + ".backpropagate", dx, gradients);
    norm.normalize_sum(x_, dy_, y, executor_);
    keep(name + ".normalize_sum(r, u, y)", y);
    norm.normalize_sum(x_, dy_, y, stats, executor_);
    keep(name + ".normalize_sum(r, u, y, stats)", y, stats);
    norm.normalize_sum(x_, dy_, sum, y, executor_);
    keep(name + ".normalize_sum(r, u, sum, y)", y, sum);
    norm.normalize_sum(x_, dy_, sum, y, stats, executor_);
    keep(name + ".normalize_sum(r, u, sum, y, stats)", y, stats);
    norm.backpropagate_sum(sum, stats, dy_, x_, dx, gradients, executor_);
    keep(name + ".backpropagate_sum", dx, gradients);
    train(name, norm);
  }

  template <class Block>
  void call_block(const std::string& name, Block block) {
    Tokens y;
    Workspace<Scalar> workspace;
    keep(name + "(x)", block(x_, executor_));
    block(x_, y, executor_);
    keep(name + "(x, y)", y);
    block(x_, y, workspace, executor_);
    keep(name + "(x, y, workspace)", y);
    train(name, block);
  }

  const Results& results() const { return results_; }

 private:
  template <class Module>
  void train(const std::string& name, Module& module) {
    keep(name + ".forward", module.forward(x_, executor_));
    keep(name + ".backward", module.backward(dy_, executor_));
    module.visit_parameters([&](const std::string& parameter, auto&, auto& gradient) {
      keep_part(name + "'s gradient of " + parameter, gradient);
    });
  }

  template <class... Parts>
  void keep(const std::string& name, const Parts&... parts) {
    // The plain loops of other scalars add up the gradients of parameters in one piece.
    const bool may_ignore = !NativeScalar<Scalar> && name.find(".back") != std::string::npos;
    if (!may_ignore) {
      EXPECT_GT(executor_.uses(), uses_) << name << " makes no use of its executor";
    }
    uses_ = executor_.uses();
    int i = 0;
    (keep_part(name + " " + std::to_string(i++), parts), ...);
  }
  template <class Matrix>
  void keep_part(const std::string& name, const Eigen::MatrixBase<Matrix>& part) {
    results_[name] = part.template cast<long double>();
  }
  void keep_part(const std::string& name, const Statistics& stats) {
    keep_part(name + " mean", stats.mean);
    keep_part(name + " rstd", stats.rstd);
  }
  void keep_part(const std::string& name, const Gradients& gradients) {
    keep_part(name + " scale", gradients.scale);
    keep_part(name + " shift", gradients.shift);
  }

  const AnyExecutor& executor_;
  Tokens x_, dy_;
  Results results_;
  int uses_ = executor_.uses();
};

}  // namespace

Results float_results(Shape shape, const AnyExecutor& executor) {
  const Index channels = shape.channels;
  const auto layer = with_random_parameters<float>(LayerNorm<float>(channels), Seed{711});
  const auto rms = with_random_parameters<float>(RMSNorm<float>(channels), Seed{721});
  Caller<float> caller(shape, executor);
  caller.call_norm("LayerNorm", layer);
  caller.call_norm("RMSNorm", rms);
  caller.call_block("PreLN", PreLN(layer, Cube<float>{}, layer, Cube<float>{}));
  return caller.results();
}

Results long_double_results(Shape shape, const AnyExecutor& executor) {
  using Long = long double;
  const Index channels = shape.channels;
  const auto layer = with_random_parameters<Long>(LayerNorm<Long>(channels), Seed{731});
  const auto rms = with_random_parameters<Long>(RMSNorm<Long>(channels), Seed{741});
  const Cube<Long> f;
  const PreLN pre_ln(layer, f, rms, f);
  const PostLN post_ln(f, layer, f, rms);
  Caller<Long> caller(shape, executor);
  caller.call_norm("LayerNorm", layer);
  caller.call_norm("RMSNorm", rms);
  caller.call_block("PreLNResidual", PreLNResidual(layer, f));
  caller.call_block("PostLNResidual", PostLNResidual(f, rms));
  caller.call_block("SandwichLNResidual", SandwichLNResidual(layer, f, rms));
  caller.call_block("PreLN", pre_ln);
  caller.call_block("PostLN", post_ln);
  caller.call_block("SandwichLN", SandwichLN(layer, f, rms, rms, f, layer));
  caller.call_block("ResPostLN", ResPostLN(f, layer, f, rms));
  caller.call_block("DeepNorm", DeepNorm(f, layer, f, rms, 1.5));
  caller.call_block("Stack of PreLN", Stack(NoNorm{}, std::vector{pre_ln, pre_ln}, rms));
  caller.call_block("Stack of PostLN", Stack(layer, std::vector{post_ln}, NoNorm{}));
  return caller.results();
}

void expect_same(const Results& actual, const Results& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (const auto& [name, values] : expected) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(actual.contains(name));
    const TokenMatrix<long double>& others = actual.at(name);
    ASSERT_EQ(others.rows(), values.rows());
    ASSERT_EQ(others.cols(), values.cols());
    Index differing = 0;
    for (Index i = 0; i < values.size(); ++i) {
      const long double a = others.data()[i], b = values.data()[i];
      if (!(a == b) || std::signbit(a) != std::signbit(b)) ++differing;
    }
    EXPECT_EQ(differing, 0) << "of " << values.size() << " values";
  }
}

void expect_results_of_serial(const AnyExecutor& executor) {
  const AnyExecutor alone(serial);
  for (const Shape shape :
       {Shape{0, 33}, Shape{1, 33}, Shape{2, 5}, Shape{37, 16}, Shape{300, 100}}) {
    SCOPED_TRACE(shape);
    expect_same(float_results(shape, executor), float_results(shape, alone));
  }
  for (const Shape shape : {Shape{0, 3}, Shape{5, 3}, Shape{150, 7}}) {
    SCOPED_TRACE(shape);
    expect_same(long_double_results(shape, executor), long_double_results(shape, alone));
  }
}

}  // namespace tokennorm::test
