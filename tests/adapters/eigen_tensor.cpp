// SPDX-License-Identifier: MIT
// tokens(tensor): views of Eigen's tensors.
#include <tokennorm/adapters/eigen_tensor.hpp>
#include <tokennorm/norm/layer_norm.hpp>

#include <gtest/gtest.h>

#include <numeric>
#include <stdexcept>
#include <type_traits>
#include <vector>

namespace tokennorm::test {
namespace {

template <class Scalar, int Rank>
using Tensor = Eigen::Tensor<Scalar, Rank, Eigen::RowMajor>;

template <class AnyTensor>
void count_up(AnyTensor& tensor) {
  std::iota(tensor.data(), tensor.data() + tensor.size(), 0.0f);
}

template <class View>
inline constexpr bool is_of_const =
    std::is_const_v<std::remove_pointer_t<decltype(std::declval<View&>().data())>>;

TEST(TensorTokens, OfRankTwoAreItsRows) {
  Tensor<float, 2> tensor(3, 4);
  count_up(tensor);
  auto view = tokens(tensor);
  ASSERT_EQ(view.rows(), 3);
  ASSERT_EQ(view.cols(), 4);
  EXPECT_EQ(view(2, 1), tensor(2, 1));
  EXPECT_EQ(view.data(), tensor.data());
  view(1, 3) = 50;
  EXPECT_EQ(tensor(1, 3), 50);
}

TEST(TensorTokens, OfHigherRanksHaveTheLastDimensionAsChannels) {
  Tensor<float, 3> three(2, 5, 7);
  count_up(three);
  auto view = tokens(three);
  ASSERT_EQ(view.rows(), 10);
  ASSERT_EQ(view.cols(), 7);
  EXPECT_EQ(view(1 * 5 + 3, 6), three(1, 3, 6));

  Tensor<double, 4> four(2, 3, 5, 7);
  count_up(four);
  auto wide = tokens(four);
  ASSERT_EQ(wide.rows(), 30);
  ASSERT_EQ(wide.cols(), 7);
  EXPECT_EQ(wide((1 * 3 + 2) * 5 + 4, 6), four(1, 2, 4, 6));
}

TEST(TensorTokens, OfAMapOrAFixedSizeAreViewsToo) {
  std::vector<float> memory(24);
  std::iota(memory.begin(), memory.end(), 0.0f);
  Eigen::TensorMap<Tensor<float, 3>> map(memory.data(), 2, 3, 4);
  EXPECT_EQ(tokens(map).data(), memory.data());
  EXPECT_EQ(tokens(map)(5, 3), 23);
  // A map may be a temporary: it does not own the memory.
  tokens(Eigen::TensorMap<Tensor<float, 2>>(memory.data(), 4, 6))(3, 5) = -1;
  EXPECT_EQ(memory[23], -1);

  Eigen::TensorFixedSize<float, Eigen::Sizes<2, 3, 4>, Eigen::RowMajor> fixed;
  fixed.setConstant(2);
  EXPECT_EQ(tokens(fixed).rows(), 6);
  EXPECT_EQ(tokens(fixed).sum(), 48);

  Eigen::Tensor<float, 3, Eigen::RowMajor, int> other_index(2, 3, 4);
  EXPECT_EQ(tokens(other_index).rows(), 6);
}

TEST(TensorTokens, OfConstCannotBeWritten) {
  const Tensor<float, 3> tensor(2, 3, 4);
  static_assert(is_of_const<decltype(tokens(tensor))>);
  const std::vector<float> memory(24, 3.0f);
  Eigen::TensorMap<const Tensor<float, 2>> map(memory.data(), 6, 4);
  static_assert(is_of_const<decltype(tokens(map))>);
  EXPECT_EQ(tokens(map).data(), memory.data());
  EXPECT_EQ(tokens(map).sum(), 72);
  Tensor<float, 3> writable(2, 3, 4);
  static_assert(!is_of_const<decltype(tokens(writable))>);
}

TEST(TensorTokens, MayBeNone) {
  Tensor<float, 3> tensor(0, 3, 4);
  EXPECT_EQ(tokens(tensor).rows(), 0);
  EXPECT_EQ(tokens(tensor).cols(), 4);
}

TEST(TensorTokens, WithoutChannelsAreRefused) {
  Tensor<float, 3> tensor(2, 3, 0);
  EXPECT_THROW(tokens(tensor), std::invalid_argument);
}

TEST(TensorTokens, AreOperandsOfANorm) {
  using Long = long double;
  Tensor<Long, 3> x(2, 3, 5), y(2, 3, 5);
  count_up(x);
  const LayerNorm<Long> norm(5);
  norm(tokens(x), tokens(y));
  const TokenMatrix<Long> expected = norm(TokenMatrix<Long>(tokens(x)));
  EXPECT_TRUE(tokens(y) == expected);
}

}  // namespace
}  // namespace tokennorm::test
