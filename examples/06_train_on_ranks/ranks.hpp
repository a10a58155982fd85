// SPDX-License-Identifier: MIT
/// The ranks that run the program, all of them.
#pragma once

#include <tokennorm/adapters/mpi.hpp>

#include <type_traits>

namespace gpt {

inline int rank() {
  int number = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &number);
  return number;
}
inline int ranks() {
  int number = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &number);
  return number;
}

/// Numbers become their sums over the ranks.
template <class Scalar>
void sum_over_ranks(Scalar* numbers, tokennorm::Index count) {
  const MPI_Datatype type = std::is_same_v<Scalar, float> ? MPI_FLOAT : MPI_DOUBLE;
  MPI_Allreduce(MPI_IN_PLACE, numbers, static_cast<int>(count), type, MPI_SUM, MPI_COMM_WORLD);
}

/// For the ends of a program, also where it throws.
class Mpi {
 public:
  Mpi(int& argc, char**& argv) { MPI_Init(&argc, &argv); }
  ~Mpi() { MPI_Finalize(); }
  Mpi(const Mpi&) = delete;
  Mpi& operator=(const Mpi&) = delete;
};

}  // namespace gpt
