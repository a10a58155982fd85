// SPDX-License-Identifier: MIT
/// How a matrix of T tokens falls into sequences.
///
/// tokennorm's blocks hand every sublayer one matrix of T = B·N tokens: for a norm and for the
/// feed-forward layer each token stands alone. Attention and the position embedding need to know
/// where one sequence ends and the next begins. They hold the context length N, and the rule is:
///
///     T a multiple of N    B = T / N sequences of N tokens, one after the other (training)
///     T < N                one sequence of T tokens (generating text that is still short)
///     T = 0                no sequence
///     anything else        std::invalid_argument
#pragma once

#include <tokennorm/tokennorm.hpp>

#include <stdexcept>
#include <string>

namespace gpt {

using tokennorm::Index;

struct Sequences {
  Index count;   // B
  Index length;  // N
};

inline Sequences split_into_sequences(Index tokens, Index context) {
  if (tokens == 0) return {0, 0};
  if (tokens < context) return {1, tokens};
  if (tokens % context == 0) return {tokens / context, context};
  throw std::invalid_argument("gpt: " + std::to_string(tokens) +
                              " tokens do not fall into sequences of " + std::to_string(context) +
                              "; give fewer than one sequence, or whole ones");
}

}  // namespace gpt
