// SPDX-License-Identifier: MIT
// tokens(...): views of memory that Eigen does not own.
#include <tokennorm/core/tokens.hpp>

#include <gtest/gtest.h>

#include <array>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace tokennorm {
namespace {

std::vector<float> counted(std::size_t size) {
  std::vector<float> values(size);
  std::iota(values.begin(), values.end(), 0.0f);
  return values;
}

TEST(Tokens, OfAPointerAreRowsOfContiguousChannels) {
  std::vector<float> memory = counted(12);
  auto view = tokens(memory.data(), 3, 4);
  ASSERT_EQ(view.rows(), 3);
  ASSERT_EQ(view.cols(), 4);
  EXPECT_EQ(view(0, 0), 0);
  EXPECT_EQ(view(1, 2), 6);
  EXPECT_EQ(view(2, 3), 11);
  view(2, 3) = 50;
  EXPECT_EQ(memory[11], 50);
  EXPECT_EQ(view.data(), memory.data());
}

TEST(Tokens, OfAPointerToConstCannotBeWritten) {
  const std::vector<float> memory = counted(12);
  auto view = tokens(memory.data(), 3, 4);
  EXPECT_EQ(view(1, 2), 6);
  static_assert(std::is_same_v<decltype(view.data()), const float*>);
}

TEST(Tokens, RowStrideSkipsWhatStandsBetween) {
  std::vector<float> memory = counted(23);
  auto view = tokens(memory.data(), 3, 5, 9);
  EXPECT_EQ(view(0, 4), 4);
  EXPECT_EQ(view(1, 0), 9);
  EXPECT_EQ(view(2, 4), 22);
}

TEST(Tokens, OfARangeHaveAsManyRowsAsFit) {
  std::vector<float> memory = counted(12);
  const std::vector<float>& read = memory;
  std::array<Eigen::bfloat16, 6> array{};
  EXPECT_EQ(tokens(memory, 6).rows(), 2);
  EXPECT_EQ(tokens(read, 4).rows(), 3);
  EXPECT_EQ(tokens(std::span(memory), 12).rows(), 1);
  EXPECT_EQ(tokens(std::span<const float>(memory), 3)(3, 2), 11);
  EXPECT_EQ(tokens(array, 3).rows(), 2);
  EXPECT_EQ(tokens(std::vector<float>{}.data(), 0, 3).rows(), 0);
  std::vector<double> none;
  EXPECT_EQ(tokens(none, 7).rows(), 0);
  EXPECT_EQ(tokens(none, 7).cols(), 7);
}

TEST(Tokens, RangeThatDoesNotDivideIsRefused) {
  std::vector<float> memory = counted(12);
  try {
    tokens(memory, 5);
    ADD_FAILURE() << "12 values are no tokens of 5 channels";
  } catch (const std::invalid_argument& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.substr(0, 11), "tokennorm: ");
    EXPECT_NE(message.find("12"), std::string::npos) << message;
    EXPECT_NE(message.find("5"), std::string::npos) << message;
  }
}

TEST(Tokens, NonsensicalCountsAreRefused) {
  std::vector<float> memory = counted(12);
  EXPECT_THROW(tokens(memory.data(), -1, 4), std::invalid_argument);
  EXPECT_THROW(tokens(memory.data(), 3, 0), std::invalid_argument);
  EXPECT_THROW(tokens(memory.data(), 3, -4), std::invalid_argument);
  EXPECT_THROW(tokens(memory.data(), 3, 4, 3), std::invalid_argument);  // rows would overlap
  EXPECT_THROW(tokens(memory, 0), std::invalid_argument);
  EXPECT_THROW(tokens(memory, -3), std::invalid_argument);
}

}  // namespace
}  // namespace tokennorm
