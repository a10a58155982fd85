// SPDX-License-Identifier: MIT
// A thread pool of Eigen's, which the program may have already for its tensors. With the CMake
// target tokennorm::thread_pool, or -pthread.
#include <tokennorm/adapters/thread_pool.hpp>
#include <tokennorm/tokennorm.hpp>

#include <iostream>

int main() {
  using Tokens = tokennorm::TokenMatrix<float>;
  const Tokens x = Tokens::Random(2000, 256);
  Eigen::ThreadPool pool(4);
  const auto executor = tokennorm::thread_pool(pool);

  const tokennorm::LayerNorm<float> norm(256);
  Tokens y(2000, 256);
  norm(x, y, executor);
  bool same = y == norm(x);

  const auto attention = [](const Tokens& n, Tokens& u) { u = n / 2; };
  const auto feed_forward = [](const Tokens& n, Tokens& u) { u = n.cwiseMax(0.0f); };
  const tokennorm::PreLN block(norm, attention, norm, feed_forward);
  tokennorm::Workspace<float> workspace;
  block(x, y, workspace, executor);
  same = same && y == block(x);

  std::cout << "Eigen's pool gives " << (same ? "the same bits" : "other bits") << '\n';
  if (same) return 0;
  std::cerr << "threads_eigen_pool: a norm or a block on threads differs from the serial one\n";
  return 1;
}
