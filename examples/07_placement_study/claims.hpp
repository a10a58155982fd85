// SPDX-License-Identifier: MIT
/// What the literature says, beside what was measured.
#pragma once

#include "csv.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

namespace study {

struct Claim {
  std::string part;  // of the study, "a"
  std::string says;  // what the source says
  std::string source;
  std::string criterion;  // of this study, for "confirmed"
  std::string measured;
  bool is_confirmed;

  const char* verdict() const { return is_confirmed ? "confirmed" : "not confirmed"; }
};

/// printf into a string.
template <class... Arguments>
std::string format(const char* how, Arguments... arguments) {
  char text[1024];
  std::snprintf(text, sizeof text, how, arguments...);
  return text;
}

/// `text` in lines of at most `columns` characters.
std::vector<std::string> wrapped(const std::string& text, std::size_t columns);

/// A table on stdout.
void print(const std::vector<Claim>& claims);

void write_csv(const std::filesystem::path& file, const std::vector<Claim>& claims);

// ---------------------------------------------------------------------------------------------

namespace detail {

/// Of UTF-8: bytes that do not continue a character.
inline std::size_t characters(const std::string& text) {
  std::size_t count = 0;
  for (const char byte : text) count += (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U;
  return count;
}

inline void print_row(const std::vector<std::string>& cells,
                      const std::vector<std::size_t>& columns) {
  std::vector<std::vector<std::string>> lines;
  std::size_t height = 0;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    lines.push_back(wrapped(cells[i], columns[i]));
    height = std::max(height, lines.back().size());
  }
  for (std::size_t line = 0; line < height; ++line) {
    std::string row;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string cell = line < lines[i].size() ? lines[i][line] : "";
      row += (i == 0 ? "" : " | ") + cell +
             std::string(columns[i] - std::min(columns[i], characters(cell)), ' ');
    }
    std::printf("%s\n", row.substr(0, row.find_last_not_of(' ') + 1).c_str());
  }
}

}  // namespace detail

inline std::vector<std::string> wrapped(const std::string& text, std::size_t columns) {
  std::vector<std::string> lines = {""};
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    std::string& line = lines.back();
    if (!line.empty() && detail::characters(line + ' ' + word) > columns) {
      lines.push_back(word);
    } else {
      line += (line.empty() ? "" : " ") + word;
    }
    begin = end + 1;
  }
  return lines;
}

inline void print(const std::vector<Claim>& claims) {
  const std::vector<std::size_t> columns = {36, 24, 34, 34, 13};
  std::printf("\n");
  detail::print_row({"claim", "source", "criterion", "measured", "verdict"}, columns);
  for (const auto& claim : claims) {
    std::printf("%s\n", std::string(153, '-').c_str());
    detail::print_row({"(" + claim.part + ") " + claim.says, claim.source, claim.criterion,
                       claim.measured, claim.verdict()},
                      columns);
  }
  std::printf("\n");
}

inline void write_csv(const std::filesystem::path& file, const std::vector<Claim>& claims) {
  Csv csv(file, {"part", "claim", "source", "criterion", "measured", "verdict"});
  for (const auto& claim : claims) {
    csv.row(claim.part, claim.says, claim.source, claim.criterion, claim.measured, claim.verdict());
  }
}

}  // namespace study
