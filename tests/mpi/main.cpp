// SPDX-License-Identifier: MIT
// Each rank runs all tests, in step; what one of them says fails the program.
#include <tokennorm/adapters/mpi.hpp>

#include <gtest/gtest.h>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  ::testing::InitGoogleTest(&argc, argv);
  const int result = RUN_ALL_TESTS();
  MPI_Finalize();
  return result;
}
