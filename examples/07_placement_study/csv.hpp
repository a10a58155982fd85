// SPDX-License-Identifier: MIT
/// A CSV file, row by row, and a plot of some of them.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace study {

class Csv {
 public:
  Csv(const std::filesystem::path& file, const std::vector<std::string>& header) : stream_(file) {
    if (!stream_) throw std::runtime_error("--out: cannot write " + file.string());
    stream_.precision(8);
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

/// Draws plots/`name`.gp from the CSV files in `directory`, as `name`.svg and `name`.png beside
/// them, with `caption` under the picture. Without gnuplot it does nothing.
void draw(const std::filesystem::path& directory, const std::string& name,
          const std::string& caption);

}  // namespace study
