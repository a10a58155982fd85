// SPDX-License-Identifier: MIT
// Google Benchmark's options, and what the figures were made with.
#include "support/suites.hpp"
#include <tokennorm/kernels/isa.hpp>

#include <benchmark/benchmark.h>

int main(int argc, char** argv) {
  using namespace tokennorm;
  constexpr const char* isa_names[] = {"baseline", "AVX2", "AVX-512"};
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("compiler", TOKENNORM_BENCH_COMPILER);
  benchmark::AddCustomContext("flags", TOKENNORM_BENCH_FLAGS);
  benchmark::AddCustomContext("isa", isa_names[static_cast<int>(isa())]);
  bench::add_inference();
  bench::add_backward();
  bench::add_residual_add();
  bench::add_placements();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
