// SPDX-License-Identifier: MIT
/// A CSV file, row by row, and a plot of some of them.
#pragma once

#include "common/output_file.hpp"

#include <cmath>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <string>
#include <type_traits>
#include <vector>

namespace study {

class Csv {
 public:
  Csv(const std::filesystem::path& file, const std::vector<std::string>& header)
      : stream_(examples::open_for_writing(file)) {
    row(header);
  }

  template <class... Cells>
  void row(const Cells&... cells) {
    bool is_first = true;
    (put(cells, is_first), ...);
    stream_ << '\n';
  }

 private:
  template <class Cell>
  void put(const std::vector<Cell>& cells, bool& is_first) {
    for (const auto& cell : cells) put(cell, is_first);
  }
  template <class Cell>
  void put(const Cell& cell, bool& is_first) {
    if (!is_first) stream_ << ',';
    is_first = false;
    if constexpr (std::is_arithmetic_v<Cell>) {
      stream_ << cell;
    } else {
      put_text(cell);
    }
  }
  void put_text(const std::string& text) {
    const bool quoted = text.find_first_of(",\"") != std::string::npos;
    if (!quoted) {
      stream_ << text;
      return;
    }
    stream_ << '"';
    for (const char character : text)
      stream_ << (character == '"' ? "\"\"" : std::string(1, character));
    stream_ << '"';
  }

  std::ofstream stream_;
};

/// Series side by side, a row for each step; one that has ended earlier has NaN from there on.
inline void write_steps(const std::filesystem::path& file, std::vector<std::string> names,
                        const std::vector<std::vector<double>>& series, std::size_t steps) {
  names.insert(names.begin(), "step");
  Csv csv(file, names);
  for (std::size_t step = 0; step < steps; ++step) {
    std::vector<double> row;
    for (const auto& one : series) row.push_back(step < one.size() ? one[step] : std::nan(""));
    csv.row(step + 1, row);
  }
}

/// Draws plots/`name`.gp from the CSV files in `directory`, as `name`.svg and `name`.png beside
/// them, with `caption` under the picture. Without gnuplot it does nothing.
void draw(const std::filesystem::path& directory, const std::string& name,
          const std::string& caption);

}  // namespace study
