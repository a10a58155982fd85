// SPDX-License-Identifier: MIT
// Google Benchmark's options, and what the figures were made with.
#include "support/suites.hpp"
#include <tokennorm/kernels/isa.hpp>

#include <benchmark/benchmark.h>

#include <fstream>
#include <string>

namespace {

/// As Linux calls it; Google Benchmark knows only the speed and the caches.
std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(": ");
    if (line.starts_with("model name") && colon != line.npos) return line.substr(colon + 2);
  }
  return "unknown CPU";
}

}  // namespace

int main(int argc, char** argv) {
  using namespace tokennorm;
  constexpr const char* isa_names[] = {"baseline", "AVX2", "AVX-512"};
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::AddCustomContext("cpu", cpu_model());
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
