// SPDX-License-Identifier: MIT
// More elements in one call than an int can count, in place; and a token of 2²⁴ channels.
//
// The calls on 2³¹ elements and more take 9 GiB of memory, and are made where they are asked for:
//
//   ctest --test-dir build-tests --build-config Large --label-regex large --verbose
#include "../support/exact_bits.hpp"
#include "backward_accuracy.hpp"
#include "forward_accuracy.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<float>;

/// What the system says it has left, where it says that; else 0.
std::uint64_t available_bytes() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("MemAvailable:")) return std::stoull(line.substr(13)) << 10;
  }
  return 0;
}

/// 2³¹ elements and 64 tokens more, of so many channels.
class LargeSizes : public ::testing::TestWithParam<Index> {
 protected:
  const Index channels_ = GetParam();
  const Index boundary_ = (Index{1} << 31) / channels_;  // the token that has element 2³¹
  const Index count_ = boundary_ + 64;
  std::unique_ptr<float[]> memory_;

  void SetUp() override {
    if (std::getenv("TOKENNORM_LARGE") == nullptr) {
      GTEST_SKIP() << "takes 9 GiB; TOKENNORM_LARGE=1 asks for it";
    }
    const auto bytes = static_cast<std::uint64_t>(count_ * channels_) * sizeof(float);
    if (available_bytes() < bytes + (std::uint64_t{2} << 30)) GTEST_SKIP() << "memory is lacking";
    memory_.reset(new (std::nothrow) float[static_cast<std::size_t>(count_ * channels_)]);
    if (memory_ == nullptr) GTEST_SKIP() << "memory is lacking";
    std::uint32_t state = 1;
    for (Index i = 0; i < count_ * channels_; ++i) {
      state = state * 1664525u + 1013904223u;
      memory_[static_cast<std::size_t>(i)] = static_cast<float>(state >> 8) * 0x1p-24f - 0.25f;
    }
  }
  auto all() { return tokens(memory_.get(), count_, channels_); }
  /// At the start, in the middle, on both sides of element 2³¹, and at the end.
  std::map<Index, Tokens> some_tokens() {
    std::map<Index, Tokens> some;
    for (const Index t : {Index{0}, Index{1}, boundary_ / 2 + 3, boundary_ - 1, boundary_,
                          boundary_ + 1, count_ - 2, count_ - 1}) {
      some[t] = all().row(t);
    }
    return some;
  }
};

TEST_P(LargeSizes, EachTokenIsWhatItIsAlone) {
  const auto layer = random_norm<Case<LayerKind, float>>(channels_);
  const auto rms = random_norm<Case<RMSKind, float>>(channels_);
  const auto x = some_tokens();
  layer(all(), all());
  const auto y = some_tokens();
  for (const auto& [t, token] : y) EXPECT_TRUE(same_bits(token, layer(x.at(t)))) << "token " << t;
  rms(all(), all());
  for (const auto& [t, token] : some_tokens())
    EXPECT_TRUE(same_bits(token, rms(y.at(t)))) << "token " << t;
}

/// x is its own gradient too, and is overwritten.
TEST_P(LargeSizes, GoBackAsEachTokenDoesAlone) {
  const auto norm = random_norm<Case<LayerKind, float>>(channels_);
  const auto x = some_tokens();
  ExactVector sum = ExactVector::Zero(channels_), size = sum;
  TokenStatistics<float> stats{Eigen::VectorXf(count_), Eigen::VectorXf(count_)}, some;
  Tokens y;
  for (Index t = 0; t < count_; t += 64) {  // a few at a time, as y would take as much as x
    const auto rows = tokens(all().row(t).data(), std::min(Index{64}, count_ - t), channels_);
    norm.normalize(rows, y, some);
    stats.mean.segment(t, rows.rows()) = some.mean;
    stats.rstd.segment(t, rows.rows()) = some.rstd;
    for (Index r = 0; r < rows.rows(); ++r) {
      sum += rows.row(r).transpose().template cast<long double>();
      size += rows.row(r).cwiseAbs().transpose().template cast<long double>();
    }
  }
  NormGradients<float> gradients;
  norm.backpropagate(all(), stats, all(), all(), gradients);
  for (const auto& [t, token] : some_tokens()) {
    const Tokens& alone = x.at(t);
    Tokens dx;
    NormGradients<float> unused;
    norm.normalize(alone, y, some);
    norm.backpropagate(alone, some, alone, dx, unused);
    EXPECT_TRUE(same_bits(token, dx)) << "token " << t;
  }
  for (Index c = 0; c < channels_; ++c) {
    const long double shift = to_exact(gradients.shift(c));
    EXPECT_LE(units_of_error(shift, sum(c), 0x1p-24L * size(c)), backward_units) << "channel " << c;
  }
}

/// Rows one after the other, and in fours.
INSTANTIATE_TEST_SUITE_P(Channels, LargeSizes, ::testing::Values(Index{4096}, Index{64}));

// ---- one long token -----------------------------------------------------------------------------

constexpr Index many_channels = Index{1} << 24;

template <class TypedCase>
class LongToken : public ::testing::Test {};
using LongCases = ::testing::Types<Case<LayerKind, float>, Case<RMSKind, float>>;
TYPED_TEST_SUITE(LongToken, LongCases, CaseName);

/// Two values in turns, whose roundings agree, far from 0.
TYPED_TEST(LongToken, KeepsTheBoundsThereAndBack) {
  Tokens x(1, many_channels);
  for (Index c = 0; c < many_channels; ++c) x(c) = c % 3 == 0 ? 101.0f : 99.3f;
  const typename TypeParam::Norm norm(many_channels, plain_options<typename TypeParam::Kind>(0));
  Tokens y, dx;
  TokenStatistics<float> stats;
  NormGradients<float> gradients;
  norm.normalize(x, y, stats);
  norm.backpropagate(x, stats, x, dx, gradients);

  const NormalizedRow row = normalize_row(spec_of(norm.options()), exact_vector(x));
  const long double count = many_channels;
  CompensatedSum projection;  // of dy = x on x̂
  for (Index c = 0; c < many_channels; ++c) projection.add(to_exact(x(c)) * row.normalized(c));
  const long double spread = std::fmax(1.0L, row.largest);
  const long double dx_size = row.rstd * to_exact(x.cwiseAbs().maxCoeff()) * spread;
  long double forward = 0, backward = 0;
  for (Index c = 0; c < many_channels; ++c) {
    const long double expected =
        row.rstd * (to_exact(x(c)) - row.mean - row.normalized(c) * projection.value() / count);
    forward =
        std::max(forward, units_of_error(to_exact(y(c)), row.normalized(c), 0x1p-24L * spread));
    backward = std::max(backward, units_of_error(to_exact(dx(c)), expected, 0x1p-24L * dx_size));
  }
  EXPECT_LE(forward, forward_units);
  EXPECT_LE(backward, backward_units);
}

}  // namespace
}  // namespace tokennorm::test
