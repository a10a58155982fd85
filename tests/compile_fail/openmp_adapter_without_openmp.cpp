// SPDX-License-Identifier: MIT
// The adapter in a unit that is compiled without OpenMP.
// EXPECT: tokennorm/adapters/openmp.hpp needs OpenMP: link tokennorm::openmp, or give -fopenmp
#ifdef FIXED
#include <tokennorm/core/executor.hpp>
#else
#include <tokennorm/adapters/openmp.hpp>
#endif

int main() {
  int sum = 0;
  const auto f = [&](tokennorm::Index begin, tokennorm::Index end) { sum += int(end - begin); };
#ifdef FIXED
  tokennorm::serial.parallel_for(3, 1, f);
#else
  tokennorm::openmp.parallel_for(3, 1, f);
#endif
  return sum - 3;
}
