// SPDX-License-Identifier: MIT
// oneTBB's threads: an executor of the caller's, as tokennorm has none for it. Any other scheduler
// with a parallel loop is the same few lines.
#include <tokennorm/tokennorm.hpp>

#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>

#include <iostream>

struct Tbb {
  template <class F>
  void parallel_for(tokennorm::Index count, tokennorm::Index grain, F&& f) const {
    const tbb::blocked_range<tokennorm::Index> all(0, count, static_cast<std::size_t>(grain));
    tbb::parallel_for(all, [&](const auto& range) { f(range.begin(), range.end()); });
  }
};

int main() {
  using Tokens = tokennorm::TokenMatrix<float>;
  const Tokens x = Tokens::Random(2000, 256);

  const tokennorm::LayerNorm<float> norm(256);
  Tokens y(2000, 256);
  norm(x, y, Tbb{});
  bool same = y == norm(x);

  const auto attention = [](const Tokens& n, Tokens& u) { u = n / 2; };
  const auto feed_forward = [](const Tokens& n, Tokens& u) { u = n.cwiseMax(0.0f); };
  const tokennorm::PreLN block(norm, attention, norm, feed_forward);
  tokennorm::Workspace<float> workspace;
  block(x, y, workspace, Tbb{});
  same = same && y == block(x);

  std::cout << "TBB's threads give " << (same ? "the same bits" : "other bits") << '\n';
  if (same) return 0;
  std::cerr << "threads_tbb: a norm or a block on threads differs from the serial one\n";
  return 1;
}
