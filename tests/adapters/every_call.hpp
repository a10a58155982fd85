// SPDX-License-Identifier: MIT
// Every call that takes an executor, compiled once for the tests of all adapters.
#pragma once

#include "../support/edge_shapes.hpp"
#include <tokennorm/core/concepts.hpp>
#include <tokennorm/core/executor.hpp>

#include <functional>
#include <map>
#include <string>

namespace tokennorm::test {

/// Any executor, and a count of its uses. It is always given grain 1, so that small examples are
/// divided too.
class AnyExecutor {
 public:
  template <class E>
  explicit AnyExecutor(const E& executor)
      : run_([executor](Index count, const Work& work) { executor.parallel_for(count, 1, work); }) {
  }

  template <class F>
  void parallel_for(Index count, Index /*grain*/, F&& f) const {
    ++uses_;
    run_(count, [&f](Index begin, Index end) { f(begin, end); });
  }
  int uses() const { return uses_; }

 private:
  using Work = std::function<void(Index begin, Index end)>;
  std::function<void(Index count, const Work& work)> run_;
  mutable int uses_ = 0;
};

/// Every result of every call, exactly, by name.
using Results = std::map<std::string, TokenMatrix<long double>>;

/// Of float: LayerNorm and RMSNorm in inference, with statistics, backward, fused with sums and as
/// modules; a PreLN block in inference and training.
Results float_results(Shape shape, const AnyExecutor& executor);

/// Of long double, which compiles faster: every norm, residual connection, block and stack. Both
/// fail where a call makes no use of the executor.
Results long_double_results(Shape shape, const AnyExecutor& executor);

/// Whether all results are the same, zeros with their signs.
void expect_same(const Results& actual, const Results& expected);

/// float_results and long_double_results are the same as without an executor, for several shapes;
/// zero tokens among them.
void expect_results_of_serial(const AnyExecutor& executor);

}  // namespace tokennorm::test
