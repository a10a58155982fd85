// SPDX-License-Identifier: MIT
/// How errors are reported: one message that names what was given and what was expected, thrown as
/// std::invalid_argument (std::logic_error for a call out of order), or, in a build without
/// exceptions, printed on stderr before abort().
///
/// Every call that checks something is compiled with the caller's program, so a check costs it a
/// comparison and a call: messages are put together here, out of line.
#pragma once

#include "tokennorm/core/scalar.hpp"

#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <stdexcept>
#include <string>

namespace tokennorm::detail {

/// What an error is about: "LayerNorm(768)", or the name alone where there are no channels yet.
struct Who {
  const char* name;
  Index channels = 0;
};

/// A part of a message: text, or a number.
struct Piece {
  Piece(const char* text_) : text(text_) {}
  Piece(Index number_) : number(number_) {}
  const char* text = nullptr;
  Index number = 0;
};

using Pieces = std::initializer_list<Piece>;

[[gnu::cold, gnu::noinline]] inline void append(std::string& message, Pieces pieces) {
  for (const Piece& piece : pieces) {
    char digits[24];
    std::snprintf(digits, sizeof digits, "%lld", static_cast<long long>(piece.number));
    message.append(piece.text != nullptr ? piece.text : digits);
  }
}

/// "tokennorm: LayerNorm(768): x is 4 x 512 (tokens x channels); expected 768 channels"
template <class Exception>
[[noreturn, gnu::cold, gnu::noinline]] void fail_with(Who who, Pieces what) {
  std::string message;
  append(message, {"tokennorm: ", who.name});
  if (who.channels > 0) append(message, {"(", who.channels, ")"});
  append(message, {": "});
  append(message, what);
#if defined(__cpp_exceptions)
  throw Exception(message);
#else
  std::fprintf(stderr, "%s\n", message.c_str());
  std::abort();
#endif
}

[[noreturn, gnu::cold, gnu::noinline]] inline void fail(Who who, Pieces what) {
  fail_with<std::invalid_argument>(who, what);
}

/// For a backward that has no forward to differentiate: none ran, none ran to its end, or another
/// backward has used it.
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_backward_first(Who who) {
  fail_with<std::logic_error>(who, {"backward before forward; call forward(x) first, to its end, "
                                    "once for each backward(dy)"});
}

/// "x is 4 x 512 (tokens x channels); expected 4 x 768"
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_shape(Who who, const char* operand,
                                                              Index tokens, Index channels,
                                                              Index expected_tokens,
                                                              Index expected_channels) {
  fail(who, {operand, " is ", tokens, " x ", channels, " (tokens x channels); expected ",
             expected_tokens, " x ", expected_channels});
}

/// "x is 4 x 512 (tokens x channels); expected 768 channels"
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_channels(Who who, const char* operand,
                                                                 Index tokens, Index channels,
                                                                 Index expected) {
  fail(who, {operand, " is ", tokens, " x ", channels, " (tokens x channels); expected ", expected,
             " channels"});
}

/// "scale has 512 values; expected 768"
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_size(Who who, const char* operand,
                                                             Index values, Index expected,
                                                             const char* remark = "") {
  fail(who, {operand, " has ", values, " values; expected ", expected, remark});
}

}  // namespace tokennorm::detail
