// SPDX-License-Identifier: MIT
// A program with EIGEN_DEFAULT_DENSE_INDEX_TYPE=int, whose indices are narrower than addresses:
// views that reach over more than 2 GiB, of which the few pages are touched that have elements.
#include <tokennorm/core/token_view.hpp>
#include <tokennorm/norm/layer_norm.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <stdexcept>
#include <type_traits>

#if __has_include(<sys/mman.h>)
#include <sys/mman.h>

namespace tokennorm {
namespace {

static_assert(std::is_same_v<Index, int>);

/// Memory that is only there where it is written.
class Reserved {
 public:
  explicit Reserved(std::size_t bytes)
      : bytes_(bytes),
        address_(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}
  Reserved(const Reserved&) = delete;
  Reserved& operator=(const Reserved&) = delete;
  ~Reserved() {
    if (address_ != MAP_FAILED) ::munmap(address_, bytes_);
  }
  float* data() const { return address_ == MAP_FAILED ? nullptr : static_cast<float*>(address_); }

 private:
  std::size_t bytes_;
  void* address_;
};

constexpr Index tokens = 3, channels = 8, stride = 600'000'000;  // 2.4 GB

TEST(IntIndices, OverlapBeyondTwoGibibytesIsSeen) {
  if constexpr (sizeof(void*) < 8) GTEST_SKIP() << "there is no such memory";
  const Reserved memory(std::size_t{4} * stride * sizeof(float) + 4096);
  if (memory.data() == nullptr) GTEST_SKIP() << "the system does not give the addresses";
  using Rows = Eigen::Map<TokenMatrix<float>, 0, Eigen::OuterStride<>>;
  const auto rows = [&](std::size_t first) {
    return Rows(memory.data() + first, tokens, channels, Eigen::OuterStride<>(stride));
  };
  Rows x = rows(0), next_row = rows(stride), beside = rows(channels);
  const TokenMatrix<float> values = TokenMatrix<float>::Random(tokens, channels);
  for (Index t = 0; t < tokens; ++t) {
    for (Index c = 0; c < channels; ++c) {
      memory.data()[std::size_t{stride} * std::size_t(t) + std::size_t(c)] = values(t, c);
    }
  }
  const LayerNorm<float> norm(channels);
  EXPECT_THROW(norm(x, next_row), std::invalid_argument);
  EXPECT_THROW(norm(next_row, x), std::invalid_argument);
  norm(x, beside);
  const TokenMatrix<float> expected = norm(values);
  for (Index t = 0; t < tokens; ++t) {
    const float* const y = memory.data() + std::size_t{stride} * std::size_t(t) + channels;
    for (Index c = 0; c < channels; ++c) EXPECT_EQ(y[c], expected(t, c)) << t << ", " << c;
  }
  EXPECT_TRUE(detail::share_memory(detail::Footprint(detail::view_of(x)),
                                   detail::Footprint(detail::view_of(next_row))));
}

}  // namespace
}  // namespace tokennorm

#endif
