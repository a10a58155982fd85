// SPDX-License-Identifier: MIT
/// What the examples' command lines have in common: checks of numbers, and one line about what is
/// wrong.
#pragma once

#include <CLI/CLI.hpp>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

namespace examples {

namespace detail {

inline CLI::Validator real_number(bool zero_too) {
  return {[=](std::string& text) {
            char* end = nullptr;
            const double value = std::strtod(text.c_str(), &end);
            const bool fine = !text.empty() && *end == '\0' && std::isfinite(value) &&
                              (value > 0 || (zero_too && value == 0));
            return fine ? std::string()
                        : std::string("must be a number ") +
                              (zero_too ? "of 0 or more" : "above 0") + ", not " + text;
          },
          zero_too ? ">= 0" : "> 0"};
}

}  // namespace detail

inline CLI::Validator whole_number(long long smallest, long long largest) {
  const std::string range = std::to_string(smallest) + " to " + std::to_string(largest);
  return {[=](std::string& text) {
            char* end = nullptr;
            const long long value = std::strtoll(text.c_str(), &end, 10);
            const bool fine =
                !text.empty() && *end == '\0' && value >= smallest && value <= largest;
            return fine ? std::string() : "must be a whole number, " + range + ", not " + text;
          },
          range};
}
inline CLI::Validator positive() { return detail::real_number(false); }
inline CLI::Validator zero_or_more() { return detail::real_number(true); }

/// Parses the command line, and calls check(), which may throw a CLI::ParseError. The result is -1,
/// or the exit code where there is nothing more to do: 0 after --help, 2 after one line on stderr.
template <class Check>
int parse(CLI::App& app, const char* program, int argc, const char* const* argv, Check&& check) {
  try {
    app.parse(argc, argv);
    check();
    return -1;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
    const std::string message = error.what();
    std::fprintf(stderr, "%s: %s (see --help)\n", program,
                 message.substr(0, message.find('\n')).c_str());
    return 2;
  }
}

}  // namespace examples
