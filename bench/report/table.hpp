// SPDX-License-Identifier: MIT
/// The table of medians.
#pragma once

#include "cells.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

namespace tokennorm::bench {

/// A peer this much faster than the library is ahead; less is a tie.
constexpr double tie = 0.95;

inline std::string formatted(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

inline std::string time_text(double nanoseconds) {
  if (nanoseconds < 1e3) return formatted("%.1f ns", nanoseconds);
  if (nanoseconds < 1e6) return formatted("%.2f us", nanoseconds / 1e3);
  return formatted("%.2f ms", nanoseconds / 1e6);
}

/// Columns as wide as their widest entry; the first three to the left, figures to the right.
class Table {
 public:
  explicit Table(std::vector<std::string> head) { add(std::move(head)); }
  void add(std::vector<std::string> row) {
    widths_.resize(std::max(widths_.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths_[i] = std::max(widths_[i], row[i].size());
    rows_.push_back(std::move(row));
  }
  void print(std::ostream& out) const {
    for (const auto& row : rows_) {
      std::string line;
      for (std::size_t i = 0; i < row.size(); ++i) {
        const std::string padding(widths_[i] - row[i].size(), ' ');
        line += (i > 0 ? "  " : "") + (i < 3 ? row[i] + padding : padding + row[i]);
      }
      out << line << "\n";
    }
  }

 private:
  std::vector<std::vector<std::string>> rows_;
  std::vector<std::size_t> widths_;
};

/// The peers of any cell; a composed one shares the column of its library.
inline std::vector<std::string> peers_of(const std::vector<Cell>& cells) {
  std::vector<std::string> names;
  for (const Cell& cell : cells) {
    for (const Contestant& contestant : cell.contestants) {
      const std::string name = plain_name(contestant.name);
      if (is_peer(name) && std::find(names.begin(), names.end(), name) == names.end()) {
        names.push_back(name);
      }
    }
  }
  return names;
}

inline void print_table(const std::vector<Cell>& cells, std::ostream& out) {
  const std::vector<std::string> columns = peers_of(cells);
  std::vector<std::string> head = {"operation", "dtype",  "shape",  "time",
                                   "GB/s",      "/floor", "target", ""};
  for (const std::string& column : columns) head.push_back(column + "/");
  Table table(std::move(head));
  int targets = 0, missed = 0, duels = 0, behind = 0;
  for (const Cell& cell : cells) {
    const auto own = cell.median("tokennorm");
    if (!own) continue;
    const auto floor = cell.floor(), limit = cell.limit();
    const bool misses = limit && *own > *limit;
    if (limit) ++targets;
    if (misses) ++missed;
    std::vector<std::string> row = {cell.operation,
                                    cell.dtype,
                                    cell.shape,
                                    time_text(*own),
                                    formatted("%.1f", cell.bytes / *own),
                                    floor ? formatted("%.2f", *own / *floor) : "",
                                    floor && limit ? formatted("%.2f", *limit / *floor) : "",
                                    misses ? "missed" : ""};
    for (const std::string& column : columns) {
      const auto direct = cell.median(column);
      const auto theirs = direct ? direct : cell.median(column + "_composed");
      std::string text;
      if (theirs) {
        const double ratio = *theirs / *own;
        text = formatted("%.2f", ratio) + (ratio < tie ? "<" : " ") + (direct ? " " : "c");
        if (column != "one_thread") {
          ++duels;
          if (ratio < tie) ++behind;
        }
      }
      row.push_back(text);
    }
    table.add(std::move(row));
  }
  table.print(out);
  out << "\n/floor: the time over that of the floor; target: the most it may be\n";
  if (!columns.empty()) {
    out << "NAME/: the time of NAME over this one; <: it is ahead (by 5 % and more); c: composed "
           "of several calls\n";
  }
  out << targets - missed << " of " << targets << " targets met";
  if (duels > 0) out << ", as fast as the peer or faster in " << duels - behind << " of " << duels;
  out << "\n";
}

}  // namespace tokennorm::bench
