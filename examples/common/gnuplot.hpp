// SPDX-License-Identifier: MIT
/// Scripts of gnuplot, where it is installed.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

namespace examples {

inline bool has_gnuplot() {
  static const bool has = std::system("command -v gnuplot > /dev/null 2>&1") == 0;
  return has;
}

/// gnuplot -c script arguments…; where that fails, one line says so.
inline void gnuplot(const std::filesystem::path& script,
                    const std::vector<std::string>& arguments) {
  std::string command = "gnuplot -c";
  const auto add = [&](const std::string& text) {  // as one word of a POSIX shell
    command += " '";
    for (const char character : text)
      command += character == '\'' ? std::string("'\\''") : std::string(1, character);
    command += "'";
  };
  add(script.string());
  for (const auto& argument : arguments) add(argument);
  if (std::system(command.c_str()) != 0)
    std::cout << "no plot: gnuplot failed: " << command << '\n';
}

}  // namespace examples
