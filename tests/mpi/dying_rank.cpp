// SPDX-License-Identifier: MIT
// Ranks that normalize without end, until one of them is killed.
#include <tokennorm/adapters/mpi.hpp>

#include <csignal>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const auto norm = tokennorm::sharded(tokennorm::LayerNorm<float>(8), MPI_COMM_WORLD);
  tokennorm::TokenMatrix<float> x = tokennorm::TokenMatrix<float>::Random(100, 8);
  for (int i = 0;; ++i) {
    norm(x, x);
    if (rank == 1 && i == 10) std::raise(SIGKILL);
  }
}
