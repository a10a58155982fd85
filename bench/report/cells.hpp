// SPDX-License-Identifier: MIT
/// The cells of the table, from the JSON of Google Benchmark.
#pragma once

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace tokennorm::bench {

/// What the library is compared with: neither itself nor a floor, but itself on one thread.
inline bool is_peer(const std::string& contestant) {
  return contestant != "tokennorm" && !contestant.starts_with("floor");
}

/// Of a composed peer the name without "_composed".
inline std::string plain_name(std::string contestant) {
  constexpr std::string_view suffix = "_composed";
  if (contestant.ends_with(suffix)) contestant.resize(contestant.size() - suffix.size());
  return contestant;
}

struct Contestant {
  std::string name;
  double order;               // of registration
  std::vector<double> times;  // of its repetitions, in ns
};

/// One operation at one shape and scalar type: what support/cell.hpp registered.
struct Cell {
  std::string operation, dtype, shape;
  std::vector<Contestant> contestants;  // in order, as the cells are
  double bytes = 0;
  double target_ratio = 0, target_extra_nanoseconds = 0, target_speedup = 0;

  std::optional<double> median(const std::string& name) const {
    for (const Contestant& contestant : contestants) {
      if (contestant.name != name) continue;
      std::vector<double> sorted = contestant.times;
      std::sort(sorted.begin(), sorted.end());
      const std::size_t half = sorted.size() / 2;
      return sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
    }
    return std::nullopt;
  }

  /// The fastest of the floors.
  std::optional<double> floor() const {
    std::optional<double> best;
    for (const Contestant& contestant : contestants) {
      if (!contestant.name.starts_with("floor")) continue;
      const double time = *median(contestant.name);
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

/// f(cell, peer, its time over the library's) for each comparison with a peer.
template <class F>
void each_comparison(const std::vector<Cell>& cells, const F& f) {
  for (const Cell& cell : cells) {
    const auto own = cell.median("tokennorm");
    if (!own) continue;
    for (const Contestant& contestant : cell.contestants) {
      if (!is_peer(contestant.name) || contestant.name == "one_thread") continue;
      f(cell, contestant.name, *cell.median(contestant.name) / *own);
    }
  }
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
      cells.push_back(
          {.operation = name[0], .dtype = name[1], .shape = name[2], .contestants = {}});
      cell = cells.end() - 1;
    }
    const bool wall_clock = name.size() > 4 && name[4] == "real_time";
    auto contestant = std::find_if(cell->contestants.begin(), cell->contestants.end(),
                                   [&](const Contestant& c) { return c.name == name[3]; });
    if (contestant == cell->contestants.end()) {
      cell->contestants.push_back({.name = name[3], .order = run.at("order"), .times = {}});
      contestant = cell->contestants.end() - 1;
    }
    contestant->times.push_back(nanoseconds(run, wall_clock));
    cell->bytes = run.at("bytes");
    cell->target_ratio = run.value("target_ratio", 0.0);
    cell->target_extra_nanoseconds = run.value("target_extra_nanoseconds", 0.0);
    cell->target_speedup = run.value("target_speedup", 0.0);
  }
  for (Cell& cell : cells) {
    std::sort(cell.contestants.begin(), cell.contestants.end(),
              [](const Contestant& a, const Contestant& b) { return a.order < b.order; });
  }
  std::sort(cells.begin(), cells.end(), [](const Cell& a, const Cell& b) {
    return a.contestants.front().order < b.contestants.front().order;
  });
  return cells;
}

}  // namespace tokennorm::bench
