// SPDX-License-Identifier: MIT
// The accuracy table: a line for each scalar, result and class of rows, a column for each
// contestant.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tokennorm::test {

/// The worst error of a contestant in the rows of a line, in units.
struct Worst {
  long double units = -1;  ///< −1: it has no such operation
  bool is_nan = false;

  void see(long double more, bool nan) {
    units = std::fmax(units, more);
    is_nan = is_nan || nan;
  }
  std::string text() const {
    if (units < 0) return "–";
    if (is_nan) return "NaN";
    if (std::isinf(units)) return "inf";
    char text[32];
    const char* format = units < 10 ? "%.2Lf" : units < 1e4L ? "%.0Lf" : "%.0Le";
    std::snprintf(text, sizeof(text), format, units);
    return text;
  }
};

struct Line {
  std::string result, rows;
  long double bound;
  std::vector<Worst> worst;  ///< of each contestant
};

class AccuracyTable {
 public:
  explicit AccuracyTable(std::vector<std::string> contestants)
      : contestants_(std::move(contestants)) {}

  /// The line of these rows, new or not: in the order in which they were first asked for.
  Line& line(std::string_view result, std::string_view rows, long double bound) {
    for (Line& line : lines_)
      if (line.result == result && line.rows == rows) return line;
    lines_.push_back(
        {std::string(result), std::string(rows), bound, std::vector<Worst>(contestants_.size())});
    return lines_.back();
  }

  const std::vector<Line>& lines() const { return lines_; }

  void print(std::ostream& out, const std::string& norm) const {
    std::vector<std::vector<std::string>> cells = {{norm, "rows", "bound"}};
    for (const std::string& name : contestants_) cells[0].push_back(name);
    for (const Line& line : lines_) {
      cells.push_back({line.result, line.rows, std::to_string(static_cast<int>(line.bound))});
      for (const Worst& worst : line.worst) cells.back().push_back(worst.text());
    }
    std::vector<std::size_t> widths(cells[0].size());
    for (const auto& row : cells)
      for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], length(row[i]));
    for (std::size_t r = 0; r < cells.size(); ++r) {
      for (std::size_t i = 0; i < widths.size(); ++i) {
        const std::string padding(widths[i] - length(cells[r][i]), ' ');
        out << "| " << (i < 2 ? cells[r][i] + padding : padding + cells[r][i]) << " ";
      }
      out << "|\n";
      if (r > 0) continue;
      for (const std::size_t width : widths) out << "|" << std::string(width + 2, '-');
      out << "|\n";
    }
  }

 private:
  /// In characters, not bytes.
  static std::size_t length(const std::string& text) {
    std::size_t count = 0;
    for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0u) != 0x80u ? 1 : 0;
    // The circumflex of x̂ stands over its letter.
    for (std::size_t at = 0; (at = text.find("\u0302", at)) != text.npos; ++at) --count;
    return count;
  }

  std::vector<std::string> contestants_;
  std::vector<Line> lines_;
};

}  // namespace tokennorm::test
