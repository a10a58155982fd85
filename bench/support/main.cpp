// SPDX-License-Identifier: MIT
// Google Benchmark's options, one of our own, and what the figures were made with.
#include "support/cell.hpp"
#include "support/suites.hpp"
#include <tokennorm/kernels/simd/isa.hpp>

#include <CLI/CLI.hpp>
#include <benchmark/benchmark.h>

#include <exception>
#include <fstream>
#include <iostream>
#include <regex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

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

/// The JSON of several runs as that of one.
class OneReport : public benchmark::JSONReporter {
 public:
  ~OneReport() override {
    if (has_context_) JSONReporter::Finalize();
  }
  bool ReportContext(const Context& context) override {
    return std::exchange(has_context_, true) || JSONReporter::ReportContext(context);
  }
  void Finalize() override {}

 private:
  bool has_context_ = false;
};

/// A regular expression of nothing but this name.
std::string quoted(const std::string& name) {
  static const std::regex special(R"([.+*?^$(){}|\[\]\\])");
  return std::regex_replace(name, special, R"(\$&)");
}

/// Cell after cell: with random interleaving, what is compared is measured within seconds, and not
/// minutes apart. A shared machine runs faster and slower from one to the other.
void run_by_cell(std::ostream& json) {
  using namespace tokennorm;
  const std::string filter = benchmark::GetBenchmarkFilter();
  const std::regex wanted(filter.empty() ? "." : filter);
  std::vector<std::pair<std::string, std::string>> cells;  // name, contestants
  for (const std::string& name : bench::registered_names) {
    if (!std::regex_search(name, wanted)) continue;
    const std::string cell = name.substr(0, name.rfind('/'));
    if (cells.empty() || cells.back().first != cell) {
      cells.emplace_back(cell, quoted(name));
    } else {
      cells.back().second += "|" + quoted(name);
    }
  }
  if (cells.empty()) throw std::runtime_error("no benchmark matches " + filter);
  OneReport report;
  report.SetOutputStream(&json);
  for (const auto& [cell, names] : cells) {
    benchmark::RunSpecifiedBenchmarks(&report, "^(" + names + ")(/|$)");
  }
}

}  // namespace

int main(int argc, char** argv) {
  using namespace tokennorm;
  constexpr const char* isa_names[] = {"baseline", "AVX2", "AVX-512"};
  benchmark::Initialize(&argc, argv);
  CLI::App app("Options of Google Benchmark (--help), and");
  std::string json;
  app.set_help_flag();
  app.add_option("--by_cell", json, "Run one cell after the other, and write JSON to this file");
  CLI11_PARSE(app, argc, argv);
  benchmark::AddCustomContext("cpu", cpu_model());
  benchmark::AddCustomContext("compiler", TOKENNORM_BENCH_COMPILER);
  benchmark::AddCustomContext("flags", TOKENNORM_BENCH_FLAGS);
  benchmark::AddCustomContext("isa", isa_names[static_cast<int>(isa())]);
  bench::add_inference();
  bench::add_backward();
  bench::add_residual_add();
  bench::add_placements();
  bench::add_training();
  if (json.empty()) {
    benchmark::RunSpecifiedBenchmarks();
  } else {
    try {
      std::ofstream file(json);
      if (!file) throw std::runtime_error("cannot write " + json);
      run_by_cell(file);
    } catch (const std::exception& error) {
      std::cerr << "bench_tokennorm: " << error.what() << "\n";
      return 1;
    }
  }
  benchmark::Shutdown();
}
