// SPDX-License-Identifier: MIT
/// How errors are reported: one message that names what was given and what was expected, thrown as
/// std::invalid_argument (std::logic_error for a call out of order), or, in a build without
/// exceptions, printed on stderr before abort().
#pragma once

#include "tokennorm/core/scalar.hpp"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tokennorm::detail {

template <class Exception>
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_with(const std::string& message) {
#if defined(__cpp_exceptions)
  throw Exception(message);
#else
  std::fprintf(stderr, "%s\n", message.c_str());
  std::abort();
#endif
}

/// "tokennorm: LayerNorm(768): x is 4 x 512 (tokens x channels); expected 768 channels"
[[noreturn, gnu::cold, gnu::noinline]] inline void fail(const std::string& who,
                                                        const std::string& what) {
  fail_with<std::invalid_argument>("tokennorm: " + who + ": " + what);
}

/// For a call that came too early, such as backward before forward.
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_order(const std::string& who,
                                                              const std::string& what) {
  fail_with<std::logic_error>("tokennorm: " + who + ": " + what);
}

[[gnu::cold]] inline std::string shape_text(Index tokens, Index channels) {
  return std::to_string(tokens) + " x " + std::to_string(channels);
}

/// "x is 4 x 512 (tokens x channels); expected 4 x 768"
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_shape(const std::string& who,
                                                              std::string_view operand,
                                                              Index tokens, Index channels,
                                                              const std::string& expected) {
  fail(who, std::string(operand) + " is " + shape_text(tokens, channels) +
                " (tokens x channels); expected " + expected);
}

}  // namespace tokennorm::detail
