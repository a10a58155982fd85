// SPDX-License-Identifier: MIT
/// The cells in which a peer is ahead.
#pragma once

#include "cells.hpp"
#include "table.hpp"

#include <algorithm>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace tokennorm::bench {

/// One line per cell and peer that is ahead by 5 % or more, the farthest ahead first.
inline void print_trailing(const std::vector<Cell>& cells, std::ostream& out) {
  std::vector<std::pair<double, std::vector<std::string>>> lines;  // after the ratio
  each_comparison(cells, [&](const Cell& cell, const std::string& peer, double ratio) {
    if (ratio >= tie) return;
    const std::string operation =
        cell.dtype == "float" ? cell.operation : cell.operation + " " + cell.dtype;
    lines.push_back({ratio, {operation, cell.shape, peer, formatted("%.2f", ratio)}});
  });
  if (lines.empty()) return;
  std::stable_sort(lines.begin(), lines.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  Table table({"operation", "shape", "peer", "its time over tokennorm's"});
  for (auto& [ratio, line] : lines) table.add(std::move(line));
  out << "\nWhere a peer is ahead by 5 % and more:\n\n";
  table.print(out);
}

}  // namespace tokennorm::bench
