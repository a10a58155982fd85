// SPDX-License-Identifier: MIT
// Whether two views share memory, or the elements of one, against the addresses of all elements.
#include <tokennorm/core/token_view.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <set>
#include <sstream>
#include <string>

namespace tokennorm::detail {
namespace {

constexpr Index buffer_size = 64;

/// The bytes of all elements.
template <class Scalar>
std::set<const std::byte*> bytes_of(const TokenView<Scalar>& view) {
  std::set<const std::byte*> bytes;
  for (Index t = 0; t < view.tokens; ++t) {
    for (Index c = 0; c < view.channels; ++c) {
      const auto* element = reinterpret_cast<const std::byte*>(view.data + t * view.token_stride +
                                                               c * view.channel_stride);
      for (std::size_t i = 0; i < sizeof(Scalar); ++i) bytes.insert(element + i);
    }
  }
  return bytes;
}

template <class Scalar>
std::string text_of(const TokenView<Scalar>& view, const Scalar* buffer) {
  std::ostringstream text;
  text << view.tokens << " x " << view.channels << " of " << sizeof(Scalar) << " bytes at "
       << view.data - buffer << ", strides " << view.token_stride << " and " << view.channel_stride;
  return text.str();
}

/// A view of up to four by four elements within the buffer.
template <class Scalar>
TokenView<Scalar> random_view(Scalar* buffer, std::mt19937& random) {
  const auto draw = [&](Index low, Index high) {
    return std::uniform_int_distribution<Index>(low, high)(random);
  };
  constexpr Index elements = buffer_size / Index{sizeof(Scalar)};
  for (;;) {
    const TokenView<Scalar> view{buffer + draw(0, elements - 1), draw(0, 4), draw(0, 4),
                                 draw(-5, 9), draw(-5, 9)};
    Index low = view.data - buffer, high = low;
    for (const Index extent :
         {(view.tokens - 1) * view.token_stride, (view.channels - 1) * view.channel_stride}) {
      if (view.empty()) continue;
      low += std::min<Index>(extent, 0);
      high += std::max<Index>(extent, 0);
    }
    if (low >= 0 && high < elements) return view;
  }
}

template <class A, class B>
void compare_random_views() {
  std::mt19937 random(3);
  alignas(16) std::byte buffer[buffer_size];
  auto* const as = reinterpret_cast<A*>(buffer);
  auto* const bs = reinterpret_cast<B*>(buffer);
  int apart = 0;
  for (int i = 0; i < 50000; ++i) {
    const auto a = random_view(as, random);
    const auto b = random_view(bs, random);
    const auto bytes_of_a = bytes_of(a), bytes_of_b = bytes_of(b);
    bool expected = false;
    for (const auto* byte : bytes_of_a) expected = expected || bytes_of_b.contains(byte);
    const auto views = text_of(a, as) + "; " + text_of(b, bs);
    ASSERT_EQ(share_memory(Footprint(a), Footprint(b)), expected) << views;
    ASSERT_FALSE(expected && are_apart(a, b)) << views;
    if (are_apart(a, b)) ++apart;
  }
  EXPECT_GT(apart, 5000);
}

TEST(TokenView, SharesMemoryWhereAnElementDoes) {
  compare_random_views<float, float>();
  compare_random_views<float, short>();
  compare_random_views<double, float>();
}

TEST(TokenView, OverlapsItselfWhereTwoElementsAreOne) {
  std::mt19937 random(4);
  alignas(16) std::byte buffer[buffer_size];
  auto* const elements = reinterpret_cast<float*>(buffer);
  int overlapping = 0;
  for (int i = 0; i < 50000; ++i) {
    const auto view = random_view(elements, random);
    const auto places = static_cast<Index>(bytes_of(view).size() / sizeof(float));
    const bool expected = places < view.tokens * view.channels;
    ASSERT_EQ(overlaps_itself(view), expected) << text_of(view, elements);
    if (expected) ++overlapping;
  }
  EXPECT_GT(overlapping, 2000);
}

}  // namespace
}  // namespace tokennorm::detail
