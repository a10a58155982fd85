// SPDX-License-Identifier: MIT
/// The pictures: the figures as CSV, then gnuplot on the scripts beside run.sh.
#pragma once

#include "cells.hpp"
#include "table.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace tokennorm::bench {

/// One line of a picture: a name for the key, and a figure of the cell at each shape.
struct Series {
  std::string name, operation, dtype;
  std::function<std::optional<double>(const Cell&)> figure;
};

/// In percent: 100 is a contestant as fast as the floor.
inline auto share_of_floor(const std::string& contestant) {
  return [contestant](const Cell& cell) -> std::optional<double> {
    const auto floor = cell.floor();
    auto time = cell.median(contestant);
    if (!time) time = cell.median(contestant + "_composed");
    if (!floor || !time) return std::nullopt;
    return 100 * *floor / *time;
  };
}

/// The same of the faster of the plain loops.
inline std::optional<double> share_of_loops(const Cell& cell) {
  const auto by_gcc = share_of_floor("loops (g++)")(cell);
  const auto by_clang = share_of_floor("loops (clang++)")(cell);
  return by_gcc && by_clang ? std::max(by_gcc, by_clang) : by_gcc ? by_gcc : by_clang;
}

/// Where a shape stands in a picture: one token, few channels, many channels, each from the least
/// bytes to the most.
inline std::pair<int, double> place(const Cell& cell) {
  const int tokens = std::stoi(cell.shape);
  const int channels = std::stoi(cell.shape.substr(cell.shape.find('x') + 1));
  return {tokens == 1 ? 0 : channels <= 128 ? 1 : 2, cell.bytes};
}

/// One row per shape that the first series has, with an empty one between the groups of place();
/// one column per series that has any figure.
inline void write_csv(const std::filesystem::path& path, const std::vector<Cell>& cells,
                      const std::vector<Series>& series) {
  std::vector<std::string> shapes;
  std::map<std::string, std::map<std::string, double>> figures;  // of each series, at each shape
  std::vector<const Cell*> ordered;
  for (const Cell& cell : cells) ordered.push_back(&cell);
  std::sort(ordered.begin(), ordered.end(),
            [](const Cell* a, const Cell* b) { return place(*a) < place(*b); });
  int group = 0;
  for (const Cell* cell : ordered) {
    for (const Series& one : series) {
      if (cell->operation != one.operation || cell->dtype != one.dtype) continue;
      if (const auto figure = one.figure(*cell)) figures[one.name][cell->shape] = *figure;
      if (&one != &series.front()) continue;
      if (!shapes.empty() && place(*cell).first != group) shapes.emplace_back();
      group = place(*cell).first;
      shapes.push_back(cell->shape);
    }
  }

  std::ofstream out(path);
  out << "shape";
  for (const Series& one : series) {
    if (figures.contains(one.name)) out << "," << one.name;
  }
  for (const std::string& shape : shapes) {
    out << "\n" << shape;
    for (const Series& one : series) {
      if (!figures.contains(one.name)) continue;
      const auto figure = figures[one.name].find(shape);
      out << ",";
      if (figure != figures[one.name].end()) out << figure->second;
    }
  }
  out << "\n";
  if (!out) throw std::runtime_error("cannot write " + path.string());
}

/// The sentence is what is seen, and why.
inline void run_gnuplot(const std::string& script, const std::filesystem::path& directory,
                        const std::string& machine, const std::string& sentence) {
  const auto quoted = [](const std::string& text) {
    std::string result = "'";
    for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return result + "'";
  };
  const std::string command =
      "gnuplot -c " + quoted(TOKENNORM_BENCH_DIRECTORY "/" + script + ".gp") + " " +
      quoted(directory.string()) + " " + quoted(machine) + " " + quoted(sentence);
  if (std::system(command.c_str()) != 0) throw std::runtime_error("this failed: " + command);
}

/// In how many comparisons with a peer the library is level or ahead, over the cells that the
/// picture of the peers shows.
inline std::string comparisons(const std::vector<Cell>& cells,
                               const std::vector<std::string>& operations) {
  int count = 0, held = 0;
  each_comparison(cells, [&](const Cell& cell, const std::string&, double ratio) {
    const bool is_shown =
        std::find(operations.begin(), operations.end(), cell.operation) != operations.end();
    if (!is_shown || cell.dtype != "float") return;
    ++count;
    held += ratio >= tie;
  });
  return std::to_string(held) + " of " + std::to_string(count);
}

/// Writes share_of_floor.svg and peers.svg, PNGs of both, and their figures.
inline void draw_plots(const std::vector<Cell>& cells, const std::string& machine,
                       const std::filesystem::path& directory) {
  std::filesystem::create_directories(directory);
  const auto own = share_of_floor("tokennorm");
  write_csv(directory / "share_of_floor.csv", cells,
            {{"LayerNorm", "layer_norm", "float", own},
             {"RMSNorm", "rms_norm", "float", own},
             {"LayerNorm bfloat16", "layer_norm", "bfloat16", own},
             {"LayerNorm backward", "layer_norm_backward", "float", own},
             {"residual add + LayerNorm", "layer_norm_residual_add", "float", own}});
  const auto gigabytes = [](const std::optional<double>& time, const Cell& cell) {
    return time ? std::optional(cell.bytes / *time) : std::nullopt;
  };
  write_csv(directory / "bandwidth.csv", cells,
            {{"floor", "layer_norm", "float",
              [=](const Cell& cell) { return gigabytes(cell.floor(), cell); }},
             {"tokennorm", "layer_norm", "float",
              [=](const Cell& cell) { return gigabytes(cell.median("tokennorm"), cell); }}});
  run_gnuplot(
      "share_of_floor", directory, machine,
      "Long rows reach the floor, for there the arithmetic hides behind the memory; a short "
      "row in cache waits for its sums, its root and its\nquotient. A backward has two sums "
      "more, and gradients of γ and β to keep exact; bfloat16 has half the bytes to hide "
      "the same arithmetic behind.");

  const std::vector<std::string> operations = {"layer_norm", "layer_norm_backward",
                                               "layer_norm_residual_add"};
  for (const std::string& operation : operations) {
    write_csv(directory / ("peers_" + operation + ".csv"), cells,
              {{"tokennorm -O2", operation, "float", own},
               {"Eigen -O3 -march=native", operation, "float", share_of_floor("eigen_O3_native")},
               {"plain loops -O3 -march=native -ffast-math", operation, "float", share_of_loops},
               {"Eigen -O2", operation, "float", share_of_floor("eigen_O2")},
               {"oneDNN", operation, "float", share_of_floor("onednn")},
               {"libtorch", operation, "float", share_of_floor("libtorch")}});
  }
  run_gnuplot("peers", directory, machine,
              "tokennorm is level with its peers (within 5 %) or ahead in " +
                  comparisons(cells, operations) +
                  " comparisons: each row is read once and finished in registers.\nWhere plain "
                  "loops are ahead, backward and with few channels, they leave out what makes "
                  "tokennorm right for every row.");
}

}  // namespace tokennorm::bench
