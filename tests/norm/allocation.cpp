// SPDX-License-Identifier: MIT
// Into a given output of the right shape nothing is allocated: inference, inference with
// statistics and the fused sum, in either storage order.
#include "../support/allocation_counter.hpp"
#include "../support/random_tokens.hpp"
#include "norm_kinds.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace tokennorm::test {
namespace {

TEST(AllocationCounter, CountsEigenAndOperatorNew) {
  if (!allocations_are_counted) GTEST_SKIP() << "allocations cannot be counted on this platform";
  const AllocationCounter counter;
  Eigen::MatrixXf matrix(10, 10);
  matrix.setZero();
  EXPECT_EQ(counter.count(), 1u);
  const auto pointer = std::make_unique<std::vector<double>>(100);
  EXPECT_EQ(counter.count(), 3u);
}

template <class TypedCase>
class Allocation : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!allocations_are_counted) GTEST_SKIP() << "allocations cannot be counted on this platform";
  }

  /// The first call may size its outputs; the later ones must not allocate.
  template <class Call>
  void expect_none(const char* what, const Call& call) {
    call();
    const AllocationCounter counter;
    call();
    call();
    EXPECT_EQ(counter.count(), 0u) << what;
  }

  template <class Matrix>
  void check(Shape shape) {
    SCOPED_TRACE(shape);
    const auto norm = random_norm<TypedCase>(shape.channels);
    Matrix x = random_normal<Matrix>(shape, Seed{1001});
    Matrix y(x.rows(), x.cols());
    typename TypedCase::Statistics stats;
    {
      const AllocationCounter counter;  // not even the first time
      norm(x, y);
      EXPECT_EQ(counter.count(), 0u) << "the first inference";
    }
    expect_none("inference", [&] { norm(x, y); });
    expect_none("through a map", [&] {
      norm(Eigen::Map<const Matrix>(x.data(), x.rows(), x.cols()),
           Eigen::Map<Matrix>(y.data(), y.rows(), y.cols()));
    });
    expect_none("one token", [&] { norm(x.row(0), y.row(0)); });
    expect_none("a block", [&] { norm(x.topRows(1), y.topRows(1)); });
    expect_none("normalize", [&] { norm.normalize(x, y, stats); });
    expect_none("in place", [&] { norm(y, y); });
  }

  template <class Matrix>
  void check_sum(Shape shape) {
    SCOPED_TRACE(shape);
    const auto norm = random_norm<TypedCase>(shape.channels);
    const Matrix x = random_normal<Matrix>(shape, Seed{1001});
    const Matrix update = random_normal<Matrix>(shape, Seed{1002});
    Matrix y, sum;
    typename TypedCase::Statistics stats;
    expect_none("with a sum", [&] { norm.normalize_sum(x, update, sum, y); });
    expect_none("without", [&] { norm.normalize_sum(x, update, y); });
    expect_none("with statistics", [&] { norm.normalize_sum(x, update, sum, y, stats); });
  }
};

TYPED_TEST_SUITE(Allocation, AllCases, CaseName);

TYPED_TEST(Allocation, SteadyStateAllocatesNothing) {
  for (const Shape& shape : {Shape{1, 16}, Shape{5, 33}, Shape{64, 100}, Shape{7, 4097}}) {
    this->template check<typename TypeParam::RowMajor>(shape);
    this->template check<typename TypeParam::ColMajor>(shape);
  }
}

template <class TypedCase>
class SumAllocation : public Allocation<TypedCase> {};
TYPED_TEST_SUITE(SumAllocation, FusedCases, CaseName);

TYPED_TEST(SumAllocation, SteadyStateAllocatesNothing) {
  for (const Shape& shape : {Shape{1, 16}, Shape{5, 33}, Shape{64, 100}, Shape{7, 4097}}) {
    this->template check_sum<typename TypeParam::RowMajor>(shape);
    this->template check_sum<typename TypeParam::ColMajor>(shape);
  }
}

TYPED_TEST(Allocation, RowsThatMustBeRedoneAllocateNothing) {
  using Matrix = typename TypeParam::RowMajor;
  using Scalar = typename TypeParam::Scalar;
  Matrix x = random_normal<Matrix>({4, 100}, Seed{1003});
  x(1, 7) = finite<Scalar>(largest<Scalar>());
  x.row(2) *= finite<Scalar>(8 * smallest_normal<Scalar>());
  Matrix y(4, 100);
  const typename TypeParam::Norm norm(100, plain_options<typename TypeParam::Kind>(0));
  this->expect_none("inference", [&] { norm(x, y); });
}

}  // namespace
}  // namespace tokennorm::test
