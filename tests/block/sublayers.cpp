// SPDX-License-Identifier: MIT
// What a sublayer may be.
#include "sublayers.hpp"

#include "../norm/norm_kinds.hpp"
#include "../support/exact_bits.hpp"
#include <tokennorm/block/stack.hpp>

#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<float>;
constexpr Index channels = 7;

Tokens halved_cube(const Tokens& x) { return 0.5f * x.array().cube(); }
void write_halved_cube(const Tokens& x, Tokens& y) { y = halved_cube(x); }

class Sublayers : public ::testing::Test {
 protected:
  const LayerNorm<float> norm_ = random_norm<Case<LayerKind, float>>(channels, {1});
  const Tokens x_ = random_normal<Tokens>({5, channels}, Seed{7001});
  const Tokens expected_ = x_ + halved_cube(norm_(x_));

  template <class F>
  ::testing::AssertionResult gives_the_same(F&& f) const {
    const PreLNResidual connection(norm_, std::forward<F>(f));
    return same_bits(connection(x_), expected_);
  }
};

TEST_F(Sublayers, MayReturnTheirResult) {
  EXPECT_TRUE(gives_the_same([](const Tokens& x) { return halved_cube(x); }));
  EXPECT_TRUE(gives_the_same(halved_cube)) << "a function";
  EXPECT_TRUE(gives_the_same([](const auto& x) { return halved_cube(x); })) << "a generic lambda";
  EXPECT_TRUE(gives_the_same([](Tokens x) { return halved_cube(x); })) << "by value";
  EXPECT_TRUE(gives_the_same(std::function<Tokens(const Tokens&)>(halved_cube)));
  EXPECT_TRUE(gives_the_same(std::ref(halved_cube))) << "a function by reference";
}

TEST_F(Sublayers, MayWriteTheirResult) {
  EXPECT_TRUE(gives_the_same([](const Tokens& x, Tokens& y) {
    EXPECT_EQ(y.rows(), x.rows()) << "y has the right shape already";
    EXPECT_EQ(y.cols(), x.cols());
    y = halved_cube(x);
  }));
  EXPECT_TRUE(gives_the_same([](const auto& x, auto& y) { y = halved_cube(x); }))
      << "a generic lambda";
  EXPECT_TRUE(gives_the_same([](auto&& x, auto&& y) {
    write_halved_cube(std::forward<decltype(x)>(x), std::forward<decltype(y)>(y));
  })) << "a generic lambda that passes on what it is given";
  EXPECT_TRUE(gives_the_same([](auto&&... xs) {
    write_halved_cube(std::forward<decltype(xs)>(xs)...);
  })) << "the same of any number";
  EXPECT_TRUE(gives_the_same([](const Tokens& x, Eigen::Ref<Tokens> y) { y = halved_cube(x); }));
  EXPECT_TRUE(gives_the_same(write_halved_cube)) << "a function";
  EXPECT_TRUE(gives_the_same(std::ref(write_halved_cube))) << "a function by reference";
  EXPECT_TRUE(gives_the_same(std::function<void(const Tokens&, Tokens&)>(write_halved_cube)));
  EXPECT_TRUE(gives_the_same(std::bind_front(write_halved_cube)));
}

TEST_F(Sublayers, ThatReturnAreCalledWithTheirInputAloneWhateverElseTheyTake) {
  struct Masked {
    Tokens operator()(const Tokens& x, const Tokens& mask = {}) const {
      return mask.size() == 0 ? halved_cube(x) : mask;
    }
  };
  EXPECT_TRUE(gives_the_same(Masked{})) << "an optional mask";
  struct Attention {
    Tokens operator()(const Tokens& x) const { return halved_cube(x); }
    Tokens operator()(const Tokens&, const Tokens& memory) const { return memory; }
  } attention;
  EXPECT_TRUE(gives_the_same(attention)) << "self- and cross-attention";
  EXPECT_TRUE(gives_the_same(std::ref(attention)));
  EXPECT_TRUE(gives_the_same([&](auto&&... xs) { return attention(xs...); }))
      << "whatever attention takes";
  struct Cached {
    Tokens operator()(const Tokens& x, Tokens& cache) const { return cache = x; }
    Tokens operator()(const Tokens& x) const { return halved_cube(x); }
  };
  EXPECT_TRUE(gives_the_same(Cached{})) << "a second argument that it writes, and yet it returns";
  struct Logged {
    Tokens operator()(const Tokens& x) const { return halved_cube(x); }
    void operator()(const Tokens&, const Tokens&) const { ADD_FAILURE() << "this writes nothing"; }
  };
  EXPECT_TRUE(gives_the_same(Logged{}));
}

TEST_F(Sublayers, WritingIsPreferredToReturning) {
  struct Both {
    Tokens operator()(const Tokens&) const { throw std::logic_error("returned"); }
    void operator()(const Tokens& x, Tokens& y) const { y = halved_cube(x); }
  };
  EXPECT_TRUE(gives_the_same(Both{}));
}

TEST_F(Sublayers, MayReturnAnotherMatrixOrAView) {
  using Array = Eigen::Array<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  EXPECT_TRUE(gives_the_same([](const Tokens& x) -> Array { return 0.5f * x.array().cube(); }));
  EXPECT_TRUE(gives_the_same([](const Tokens& x) -> Eigen::MatrixXf { return halved_cube(x); }))
      << "column-major";
  Tokens kept;
  EXPECT_TRUE(gives_the_same([&kept](const Tokens& x) -> const Tokens& {
    kept = halved_cube(x);
    return kept;
  })) << "a reference";
  EXPECT_TRUE(gives_the_same([&kept](const Tokens& x) {
    kept = halved_cube(x);
    return Eigen::Map<const Tokens>(kept.data(), kept.rows(), kept.cols());
  })) << "a map";
  EXPECT_TRUE(gives_the_same([&kept](const Tokens& x) -> Eigen::Ref<const Tokens> {
    kept = halved_cube(x);
    return kept;
  })) << "a Ref";
  Tokens wide;
  const auto widened = [&wide](const Tokens& x) {
    wide.setConstant(x.rows() + 2, x.cols() + 3, 7);
    wide.block(1, 2, x.rows(), x.cols()) = halved_cube(x);
  };
  EXPECT_TRUE(gives_the_same([&](const Tokens& x) {
    widened(x);
    return wide.block(1, 2, x.rows(), x.cols());
  })) << "a block";
  EXPECT_TRUE(gives_the_same([&](const Tokens& x) {
    widened(x);
    const Eigen::Map<const Tokens> map(wide.data(), wide.rows(), wide.cols());
    return map.middleRows(1, x.rows()).middleCols(2, x.cols());
  })) << "a block of a block of a map";
}

TEST_F(Sublayers, MayReturnTheirInput) {
  const PreLNResidual pre(norm_, [](const Tokens& x) -> const Tokens& { return x; });
  EXPECT_TRUE(same_bits(pre(x_), x_ + norm_(x_)));
  const PostLNResidual post([](const Tokens& x) -> const Tokens& { return x; }, norm_);
  EXPECT_TRUE(same_bits(post(x_), norm_(x_ + x_)));
  const auto itself = static_cast<const Tokens& (Eigen::EigenBase<Tokens>::*)() const>(
      &Eigen::EigenBase<Tokens>::derived);
  EXPECT_TRUE(same_bits(PreLNResidual(norm_, itself)(x_), x_ + norm_(x_))) << "a member function";
}

TEST_F(Sublayers, ByRefStayOutside) {
  struct Counting {
    int calls = 0;
    Tokens operator()(const Tokens& x) {  // not const: it counts
      ++calls;
      return halved_cube(x);
    }
  } counting;
  const PreLNResidual connection(norm_, std::ref(counting));
  EXPECT_TRUE(same_bits(connection(x_), expected_));
  EXPECT_TRUE(same_bits(connection(x_), expected_));
  EXPECT_EQ(counting.calls, 2);
  EXPECT_EQ(&connection.sublayer(), &counting)
      << "the accessor gives the sublayer, not the wrapper";
  const auto copy = connection;
  EXPECT_TRUE(same_bits(copy(x_), expected_));
  EXPECT_EQ(counting.calls, 3) << "a copy of the block refers to the same sublayer";
  EXPECT_TRUE(gives_the_same(std::cref(halved_cube)));
}

TEST_F(Sublayers, MayBeANormOrABlock) {
  const RMSNorm<float> inner = random_norm<Case<RMSKind, float>>(channels, {2});
  const PreLNResidual over_norm(norm_, inner);
  EXPECT_TRUE(same_bits(over_norm(x_), x_ + inner(norm_(x_))));

  const PreLNResidual over_block(norm_, over_norm);
  EXPECT_TRUE(same_bits(over_block(x_), x_ + over_norm(norm_(x_))));

  const PreLN both(norm_, inner, norm_, over_norm);
  const Tokens h = x_ + inner(norm_(x_));
  EXPECT_TRUE(same_bits(both(x_), h + over_norm(norm_(h))));
}

TEST_F(Sublayers, ThatAreNormsOrBlocksAreTrainedAndVisited) {
  // y = x + inner(norm(x)), written as a connection and by hand.
  RMSNorm<float> inner = random_norm<Case<RMSKind, float>>(channels, {2});
  LayerNorm<float> norm = norm_;
  PreLNResidual connection(norm_, inner);
  const auto dy = random_normal<Tokens>({5, channels}, Seed{7002});
  EXPECT_TRUE(same_bits(connection.forward(x_), Tokens(x_ + inner.forward(norm.forward(x_)))));
  const Tokens dx = connection.backward(dy);
  const Tokens expected = dy + norm.backward(inner.backward(dy));
  EXPECT_LE((dx - expected).cwiseAbs().maxCoeff(), 1e-5f);
  EXPECT_TRUE(same_bits(connection.sublayer().gradients().scale, inner.gradients().scale));
  EXPECT_TRUE(same_bits(connection.norm().gradients().scale, norm.gradients().scale));

  std::vector<std::string> names;
  PreLNResidual outer(norm_, connection);
  outer.visit_parameters([&](const std::string& name, auto&, auto&) { names.push_back(name); });
  const std::vector<std::string> documented = {"norm.scale",
                                               "norm.shift",
                                               "sublayer.norm.scale",
                                               "sublayer.norm.shift",
                                               "sublayer.sublayer.scale",
                                               "sublayer.sublayer.shift"};
  EXPECT_EQ(names, documented);
}

TEST_F(Sublayers, ByRefAreTrainedOutside) {
  Linear<float> inside(channels, {3}), outside(channels, {3});
  PreLNResidual by_value(norm_, inside);
  PreLNResidual by_reference(norm_, std::ref(outside));
  EXPECT_TRUE(same_bits(by_reference(x_), by_value(x_)));
  EXPECT_TRUE(same_bits(by_reference.forward(x_), by_value.forward(x_)));
  EXPECT_TRUE(same_bits(by_reference.backward(x_), by_value.backward(x_)));

  const auto gradients = [](auto& of) {
    std::vector<Eigen::VectorXf> all;
    of.visit_parameters(
        [&](const std::string&, auto&&, auto&& gradient) { all.emplace_back(gradient); });
    return all;
  };
  const auto expected = gradients(by_value.sublayer());
  const auto seen = gradients(outside);
  ASSERT_EQ(seen.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(same_bits(seen[i], expected[i]));
    EXPECT_FALSE(seen[i].isZero(0));
  }
  EXPECT_EQ(gradients(by_reference).size(), gradients(by_value).size());
  by_reference.zero_gradients();
  for (const auto& gradient : gradients(outside)) EXPECT_TRUE(gradient.isZero(0));
  EXPECT_TRUE(gradients(inside)[0].isZero(0)) << "a sublayer given by value is a copy";
}

TEST_F(Sublayers, MayReturnViewsInTraining) {
  struct Tripled {
    Eigen::Map<const Tokens> forward(const Tokens& x) {
      kept = 3 * x;
      return {kept.data(), kept.rows(), kept.cols()};
    }
    const Tokens& backward(const Tokens& dy, const Tokens& = {}) { return kept = 3 * dy; }
    Tokens kept;
  };
  PostLNResidual connection(Tripled{}, norm_);
  LayerNorm<float> norm = norm_;
  EXPECT_TRUE(same_bits(connection.forward(x_), norm.forward(x_ + 3 * x_)));
  const Tokens expected = 4 * norm.backward(x_);
  EXPECT_LE((connection.backward(x_) - expected).cwiseAbs().maxCoeff(), 1e-5f);
}

TEST_F(Sublayers, AreTrainedInTheScalarOfTheParameters) {
  // Inference follows x, training the parameters.
  PreLNResidual connection(random_norm<Case<LayerKind, float>>(channels, {1}),
                           Linear<float>(channels, {3}));
  const TokenMatrix<double> x = x_.cast<double>();
  const auto y = connection.forward(x);
  static_assert(std::is_same_v<decltype(y)::Scalar, float>);
  const auto dx = connection.backward(x);
  static_assert(std::is_same_v<decltype(dx)::Scalar, float>);
  EXPECT_TRUE(same_bits(y, connection.forward(x_)));
  EXPECT_TRUE(same_bits(dx, connection.backward(x_)));
}

}  // namespace
}  // namespace tokennorm::test
