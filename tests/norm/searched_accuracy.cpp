// SPDX-License-Identifier: MIT
// The bounds that hold where a search makes all roundings agree; tests/accuracy.sh searches longer.
#include "../support/worst_case.hpp"
#include "searched_rows.hpp"

#include <gtest/gtest.h>

#include <string>

namespace tokennorm::test {
namespace {

template <class TypedCase>
class SearchedAccuracy : public ::testing::Test {
 protected:
  static void expect_within_bound(Searched what, Index count, const std::string& name) {
    WorstCase worst;
    for (const Index channels : searched_channels) {
      const auto found = search_worst<TypedCase>(what, channels, count, Seed{17});
      worst.see(found.units, channels, 0, "searched for");
      EXPECT_LE(found.units, bound_where_searched(what)) << "C = " << channels;
    }
    worst.report(TypedCase::Kind::name + std::string("<") +
                 scalar_name<typename TypedCase::Scalar>() + "> " + name + ", searched");
  }
};

using Cases = ::testing::Types<Case<LayerKind, float>, Case<RMSKind, float>,
                               Case<LayerKind, double>, Case<RMSKind, double>>;
TYPED_TEST_SUITE(SearchedAccuracy, Cases, CaseName);

TYPED_TEST(SearchedAccuracy, OfTheNormalizedRow) {
  this->expect_within_bound(Searched::normalized, 6000, "forward");
}

TYPED_TEST(SearchedAccuracy, OfTheGradientOfTheRow) {
  this->expect_within_bound(Searched::dx, 3000, "dx");
}

TYPED_TEST(SearchedAccuracy, OfTheGradientOfTheScale) {
  this->expect_within_bound(Searched::scale_gradient, 1000, "gradient of the scale");
}

}  // namespace
}  // namespace tokennorm::test
