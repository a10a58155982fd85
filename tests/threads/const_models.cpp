// SPDX-License-Identifier: MIT
// Threads: one const norm, block or stack serves any number of callers at a time, each over an
// executor of its own or over one that they share; copies of a model are trained side by side. The
// bits are those of one call after the other. .ci/run builds this with ThreadSanitizer too.
#include "../adapters/every_call.hpp"
#include "../block/executors.hpp"
#include "../block/placements.hpp"
#include "../support/exact_bits.hpp"
#include <tokennorm/adapters/thread_pool.hpp>
#ifdef _OPENMP
#include <tokennorm/adapters/openmp.hpp>
#endif
#include <tokennorm/norm/heads.hpp>
#include <tokennorm/norm/layer_norm.hpp>
#include <tokennorm/norm/rms_norm.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <thread>
#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<float>;

/// Every executor; two callers share the pool's.
struct Executors {
  Eigen::ThreadPool pool{3};
  std::vector<AnyExecutor> all{AnyExecutor(serial), AnyExecutor(TestExecutor{Division::on_threads}),
#ifdef _OPENMP
                               AnyExecutor(openmp),
#endif
                               AnyExecutor(thread_pool(pool)), AnyExecutor(thread_pool(pool))};
};

/// f(i, executor) for each executor, all at once, some times each.
template <class F>
void all_at_once(const Executors& executors, const F& f) {
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < executors.all.size(); ++i) {
    threads.emplace_back([&, i, executor = executors.all[i]] {
      for (int repeat = 0; repeat < 5; ++repeat) f(i, executor);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

/// Tokens of its own for each caller: two chunks of them, so that gradients are sums of sums.
std::vector<Tokens> tokens_of_callers(const Executors& executors, Index channels, Seed seed) {
  std::vector<Tokens> all;
  for (std::size_t i = 0; i < executors.all.size(); ++i) {
    all.push_back(random_normal<Tokens>({67, channels}, Seed{seed.value + i}));
  }
  return all;
}

// ---- norms --------------------------------------------------------------------------------------

/// What each const call gives, one behind the other.
template <class Norm>
std::vector<Tokens> results_of(const Norm& norm, const Tokens& x, const AnyExecutor& executor) {
  Tokens y, sum, fused, dx, dsum, of_heads(x.rows(), x.cols());
  TokenStatistics<float> stats, sum_stats;
  NormGradients<float> gradients;
  norm.normalize(x, y, stats, executor);
  norm.backpropagate(x, stats, y, dx, gradients, executor);
  norm.normalize_sum(x, y, sum, fused, sum_stats, executor);
  norm.backpropagate_sum(sum, sum_stats, y, x, dsum, gradients, executor);
  norm(heads(x, norm.channels()), heads(of_heads, norm.channels()), executor);
  return {norm(x), y, dx, fused, dsum, of_heads, gradients.scale.transpose()};
}

template <class Norm>
class ConstNorm : public ::testing::Test {};
using Norms = ::testing::Types<LayerNorm<float>, RMSNorm<float>>;
TYPED_TEST_SUITE(ConstNorm, Norms);

TYPED_TEST(ConstNorm, ServesManyCallersAtOnce) {
  constexpr Index channels = 33;
  TypeParam norm(channels);
  norm.scale() = random_vector<float>(channels, Seed{9001}, 1);
  const Executors executors;
  const std::vector<Tokens> x = tokens_of_callers(executors, channels, Seed{9010});
  std::vector<std::vector<Tokens>> results(x.size());
  const TypeParam& model = norm;
  all_at_once(executors, [&](std::size_t i, const AnyExecutor& executor) {
    results[i] = results_of(model, x[i], executor);
  });
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::vector<Tokens> expected = results_of(model, x[i], AnyExecutor(serial));
    for (std::size_t j = 0; j < expected.size(); ++j)
      EXPECT_TRUE(same_bits(results[i][j], expected[j])) << "caller " << i << ", result " << j;
  }
}

// ---- blocks and stacks --------------------------------------------------------------------------

template <class Placement>
class ConstBlock : public ::testing::Test {};
TYPED_TEST_SUITE(ConstBlock, AllPlacements, PlacementName);

TYPED_TEST(ConstBlock, ServesManyCallersAtOnce) {
  constexpr Index channels = 13;
  const auto block = TypeParam::template make<float>(channels);
  const Executors executors;
  const std::vector<Tokens> x = tokens_of_callers(executors, channels, Seed{9020});
  std::vector<Tokens> results(x.size());
  std::vector<Workspace<float>> workspaces(x.size());
  all_at_once(executors, [&](std::size_t i, const AnyExecutor& executor) {
    block(x[i], results[i], workspaces[i], executor);
  });
  for (std::size_t i = 0; i < x.size(); ++i)
    EXPECT_TRUE(same_bits(results[i], block(x[i]))) << "caller " << i;
}

/// What one caller's attention reads and writes.
struct Session {
  float factor = 1;
  Tokens last = {};
};
struct Attention {
  void operator()(const Tokens& n, Tokens& y, Session& session) const {
    session.last = n;
    y = session.factor * session.last;
  }
};
struct FeedForward {
  Tokens operator()(const Tokens& n) const { return n.cwiseAbs2(); }
};

TEST(ConstStack, ServesManySessionsAtOnce) {
  constexpr Index channels = 13;
  const LayerNorm<float> norm(channels);
  const Stack stack(norm, std::vector(3, PreLN(norm, Attention{}, norm, FeedForward{})), norm);
  const Executors executors;
  const std::vector<Tokens> x = tokens_of_callers(executors, channels, Seed{9040});
  std::vector<Tokens> results(x.size());
  std::vector<Session> sessions(x.size());
  std::vector<Workspace<float>> workspaces(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) sessions[i].factor = static_cast<float>(i) - 1.5f;
  all_at_once(executors, [&](std::size_t i, const AnyExecutor& executor) {
    stack(x[i], results[i], workspaces[i], with(sessions[i]), executor);
  });
  for (std::size_t i = 0; i < x.size(); ++i) {
    Session alone{sessions[i].factor};
    EXPECT_TRUE(same_bits(results[i], stack(x[i], with(alone)))) << "session " << i;
    EXPECT_TRUE(same_bits(sessions[i].last, alone.last)) << "session " << i;
  }
}

// ---- training -----------------------------------------------------------------------------------

template <class Placement>
class Copies : public ::testing::Test {};
using TrainedPlacements = ::testing::Types<PreLNPlacement, StackOfATuplePlacement>;
TYPED_TEST_SUITE(Copies, TrainedPlacements, PlacementName);

/// By a record of its own, then by one of the caller's.
template <class Block>
std::vector<Tokens> train(Block& block, const Tokens& x, const AnyExecutor& executor) {
  TrainingRecord<float> record;
  Tokens y, dx;
  block.zero_gradients();
  const Tokens own_y = block.forward(x, executor);
  const Tokens own_dx = block.backward(x, executor);
  block.forward(own_y, y, record, executor);
  block.backward(x, dx, record, executor);
  std::vector<Tokens> results{own_y, own_dx, y, dx};
  block.visit_parameters([&](const std::string&, auto&, auto& gradient) {
    results.push_back(Tokens(gradient.transpose()));
  });
  return results;
}

TYPED_TEST(Copies, AreTrainedSideBySide) {
  constexpr Index channels = 13;
  auto model = TypeParam::template make<float>(channels);
  const Executors executors;
  const std::vector<Tokens> x = tokens_of_callers(executors, channels, Seed{9060});
  std::vector<std::vector<Tokens>> results(x.size());
  std::vector copies(x.size(), model);
  all_at_once(executors, [&](std::size_t i, const AnyExecutor& executor) {
    results[i] = train(copies[i], x[i], executor);
  });
  for (std::size_t i = 0; i < x.size(); ++i) {
    const std::vector<Tokens> expected = train(model, x[i], AnyExecutor(serial));
    for (std::size_t j = 0; j < expected.size(); ++j)
      EXPECT_TRUE(same_bits(results[i][j], expected[j])) << "copy " << i << ", result " << j;
  }
}

}  // namespace
}  // namespace tokennorm::test
