// SPDX-License-Identifier: MIT
/// The cells of the table, from the JSON of Google Benchmark.
#pragma once

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace tokennorm::bench {

/// One operation at one shape and scalar type: what support/cell.hpp registered.
struct Cell {
  std::string operation, dtype, shape;
  std::map<std::string, std::vector<double>> times;  // of each contestant's repetitions, in ns
  double order = 0, bytes = 0;
  double target_ratio = 0, target_extra_nanoseconds = 0, target_speedup = 0;

  std::optional<double> median(const std::string& contestant) const {
    const auto found = times.find(contestant);
    if (found == times.end()) return std::nullopt;
    std::vector<double> sorted = found->second;
    std::sort(sorted.begin(), sorted.end());
    const std::size_t half = sorted.size() / 2;
    return sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }

  /// The fastest of the floors.
  std::optional<double> floor() const {
    std::optional<double> best;
    for (const auto& [contestant, _] : times) {
      if (!contestant.starts_with("floor")) continue;
      const double time = *median(contestant);
      if (!best || time < *best) best = time;
    }
    return best;
  }

  /// The time that the target allows.
  std::optional<double> limit() const {
    const auto best = floor(), alone = median("one_thread");
    if (target_speedup > 0 && alone) return *alone / target_speedup;
    if (target_ratio > 0 && best) return target_ratio * *best + target_extra_nanoseconds;
    return std::nullopt;
  }
};

inline double nanoseconds(const nlohmann::json& run, bool wall_clock) {
  const double time = run.at(wall_clock ? "real_time" : "cpu_time");
  const std::string unit = run.at("time_unit");
  if (unit == "ns") return time;
  if (unit == "us") return time * 1e3;
  if (unit == "ms") return time * 1e6;
  return time * 1e9;
}

/// In the order in which they were registered. A benchmark of one thread is timed by that thread's
/// clock, which does not count what other programs take from it.
inline std::vector<Cell> read_cells(const nlohmann::json& file) {
  std::vector<Cell> cells;
  for (const auto& run : file.at("benchmarks")) {
    if (run.at("run_type") != "iteration" || run.value("error_occurred", false)) continue;
    std::vector<std::string> name;
    std::istringstream words(run.at("run_name").get<std::string>());
    for (std::string word; std::getline(words, word, '/');) name.push_back(word);
    if (name.size() < 4) throw std::runtime_error("not a benchmark of tokennorm: " + words.str());

    auto cell = std::find_if(cells.begin(), cells.end(), [&](const Cell& c) {
      return c.operation == name[0] && c.dtype == name[1] && c.shape == name[2];
    });
    if (cell == cells.end()) {
      cells.push_back({.operation = name[0], .dtype = name[1], .shape = name[2], .times = {}});
      cell = cells.end() - 1;
    }
    const bool wall_clock = name.size() > 4 && name[4] == "real_time";
    cell->times[name[3]].push_back(nanoseconds(run, wall_clock));
    cell->order = run.at("order");
    cell->bytes = run.at("bytes");
    cell->target_ratio = run.value("target_ratio", 0.0);
    cell->target_extra_nanoseconds = run.value("target_extra_nanoseconds", 0.0);
    cell->target_speedup = run.value("target_speedup", 0.0);
  }
  std::sort(cells.begin(), cells.end(),
            [](const Cell& a, const Cell& b) { return a.order < b.order; });
  return cells;
}

}  // namespace tokennorm::bench
