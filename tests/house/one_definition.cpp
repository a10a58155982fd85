// SPDX-License-Identifier: MIT
// Two units of one program include everything and use it alike: a missing `inline` fails the link.
#include <tokennorm/checkpoint/gguf.hpp>
#include <tokennorm/tokennorm.hpp>

#include <gtest/gtest.h>

tokennorm::TokenMatrix<float> normalized_in_other_unit(const tokennorm::TokenMatrix<float>& x);

TEST(OneDefinition, HoldsAcrossUnits) {
  const tokennorm::TokenMatrix<float> x = tokennorm::TokenMatrix<float>::Random(5, 33);
  EXPECT_EQ(tokennorm::LayerNorm<float>(33)(x), normalized_in_other_unit(x));
}
