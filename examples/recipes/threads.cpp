// SPDX-License-Identifier: MIT
// Your own threads in ten lines: an executor is anything with parallel_for, given as the last
// argument of any call. Results have the same bits as without one, and gradients too. Threads that
// are kept are better than new ones: threads_openmp.cpp, threads_eigen_pool.cpp, threads_tbb.cpp.
#include <tokennorm/tokennorm.hpp>

#include <algorithm>
#include <iostream>
#include <thread>
#include <vector>

using tokennorm::Index;
using Tokens = tokennorm::TokenMatrix<float>;

struct Threads {
  Index count;

  /// f(begin, end) on disjoint ranges that cover [0, size), if it can be none shorter than grain
  template <class F>
  void parallel_for(Index size, Index grain, F&& f) const {
    const Index parts = std::clamp<Index>(size / grain, 1, count);
    std::vector<std::jthread> others;  // joined where the scope ends
    for (Index i = 1; i < parts; ++i) {
      others.emplace_back(
          [&f, begin = size * i / parts, end = size * (i + 1) / parts] { f(begin, end); });
    }
    f(Index{0}, size / parts);
  }
};

int main() {
  constexpr int channels = 256;
  const Threads threads{4};
  const Tokens x = Tokens::Random(2000, channels), dy = Tokens::Random(2000, channels);

  tokennorm::LayerNorm<float> norm(channels), serial(channels);
  Tokens y(x.rows(), channels);
  norm(x, y, threads);
  bool same = y == serial(x);

  norm.forward(x, threads);
  serial.forward(x);
  same = same && norm.backward(dy, threads) == serial.backward(dy);
  same = same && norm.gradients().scale == serial.gradients().scale;

  // A block too: its norms and sums. Threads within a sublayer are the sublayer's: with(threads).
  const auto attention = [](const Tokens& n, Tokens& u) { u = n / 2; };
  const auto feed_forward = [](const Tokens& n, Tokens& u) { u = n.cwiseMax(0.0f); };
  const tokennorm::PreLN block(norm, attention, norm, feed_forward);
  tokennorm::Workspace<float> workspace;
  block(x, y, workspace, threads);
  same = same && y == block(x);

  std::cout << "four threads give " << (same ? "the same bits" : "other bits") << '\n';
  if (same) return 0;
  std::cerr << "threads: a norm or a block on threads differs from the serial one\n";
  return 1;
}
