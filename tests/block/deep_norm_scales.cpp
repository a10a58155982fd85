// SPDX-License-Identifier: MIT
// The figures that the paper and torchscale give, worked out by hand for numbers of layers that are
// powers.
#include "../support/message_of.hpp"
#include <tokennorm/block/blocks.hpp>

#include <gtest/gtest.h>

namespace tokennorm::test {
namespace {

constexpr double tolerance = 1e-15;

TEST(DeepNormScales, OfAnEncoderAlone) {
  const auto scales = deep_norm_scales(8, 0);  // (16)^¼, (64)^−¼
  EXPECT_NEAR(scales.encoder.alpha, 2.0, tolerance);
  EXPECT_NEAR(scales.encoder.beta, 0.35355339059327376, tolerance);
  EXPECT_EQ(scales.decoder.alpha, 1);
  EXPECT_EQ(scales.decoder.beta, 1);
}

TEST(DeepNormScales, OfADecoderAlone) {
  const auto scales = deep_norm_scales(0, 128);  // (256)^¼, (1024)^−¼
  EXPECT_NEAR(scales.decoder.alpha, 4.0, 4 * tolerance);
  EXPECT_NEAR(scales.decoder.beta, 0.17677669529663688, tolerance);
  EXPECT_EQ(scales.encoder.alpha, 1);
  EXPECT_EQ(scales.encoder.beta, 1);
}

TEST(DeepNormScales, OfBoth) {
  // N = 16, M = 27: (N⁴M)^(1/16) = 2·27^(1/16) = 2.4574813517; (3M)^¼ = 81^¼ = 3, (12M)^−¼ =
  // 324^−¼.
  const auto scales = deep_norm_scales(16, 27);
  EXPECT_NEAR(scales.encoder.alpha, 0.81 * 2.4574813517, 1e-9);
  EXPECT_NEAR(scales.encoder.beta, 0.87 / 2.4574813517, 1e-9);
  EXPECT_NEAR(scales.decoder.alpha, 3.0, 3 * tolerance);
  EXPECT_NEAR(scales.decoder.beta, 0.23570226039551584, tolerance);
}

TEST(DeepNormScales, OfNoLayersAreOneAndOfFewerRefused) {
  EXPECT_EQ(deep_norm_scales(0, 0).encoder.alpha, 1);
  EXPECT_EQ(message_of([] { deep_norm_scales(-1, 6); }),
            "tokennorm: deep_norm_scales: the numbers of layers are -1 (encoder) and 6 (decoder); "
            "expected 0 or more");
}

}  // namespace
}  // namespace tokennorm::test
