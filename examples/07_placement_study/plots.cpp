// SPDX-License-Identifier: MIT
// The pictures: see csv.hpp and plots/.
#include "claims.hpp"
#include "csv.hpp"

#include <cstdlib>
#include <iostream>

namespace study {

namespace {

/// `text` as one word of a POSIX shell.
std::string shell_word(const std::string& text) {
  std::string word = "'";
  for (const char character : text)
    word += character == '\'' ? std::string("'\\''") : std::string(1, character);
  return word + "'";
}

}  // namespace

void draw(const std::filesystem::path& directory, const std::string& name,
          const std::string& caption) {
  static const bool has_gnuplot = std::system("command -v gnuplot > /dev/null 2>&1") == 0;
  if (!has_gnuplot) return;
  std::string lines;
  for (const auto& line : wrapped(caption, 135)) lines += (lines.empty() ? "" : "\n") + line;
  const auto plots = std::filesystem::path(PLACEMENT_STUDY_DIRECTORY) / "plots";
  const std::string command = "gnuplot -c " + shell_word((plots / (name + ".gp")).string()) + ' ' +
                              shell_word(plots.string()) + ' ' + shell_word(directory.string()) +
                              ' ' + shell_word(lines);
  if (std::system(command.c_str()) != 0)
    std::cout << "no plot: gnuplot failed: " << command << '\n';
}

}  // namespace study
