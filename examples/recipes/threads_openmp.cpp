// SPDX-License-Identifier: MIT
// OpenMP's threads, as many as OMP_NUM_THREADS or omp_set_num_threads say. With the CMake target
// tokennorm::openmp, or -fopenmp.
#include <tokennorm/adapters/openmp.hpp>
#include <tokennorm/tokennorm.hpp>

#include <iostream>

int main() {
  using Tokens = tokennorm::TokenMatrix<float>;
  const Tokens x = Tokens::Random(2000, 256);

  const tokennorm::LayerNorm<float> norm(256);
  Tokens y(2000, 256);
  norm(x, y, tokennorm::openmp);
  bool same = y == norm(x);

  const auto attention = [](const Tokens& n, Tokens& u) { u = n / 2; };
  const auto feed_forward = [](const Tokens& n, Tokens& u) { u = n.cwiseMax(0.0f); };
  const tokennorm::PreLN block(norm, attention, norm, feed_forward);
  tokennorm::Workspace<float> workspace;
  block(x, y, workspace, tokennorm::openmp);
  same = same && y == block(x);

  std::cout << "OpenMP's threads give " << (same ? "the same bits" : "other bits") << '\n';
  if (same) return 0;
  std::cerr << "threads_openmp: a norm or a block on threads differs from the serial one\n";
  return 1;
}
