// SPDX-License-Identifier: MIT
/// How a matrix of T tokens falls into sequences.
///
/// tokennorm's blocks hand every sublayer one matrix of T = B·N tokens: for a norm and for the
/// feed-forward layer each token stands alone. Attention and the position embedding need to know
/// where one sequence ends and the next begins. The model, which has a context of so many tokens,
/// decides it by this rule, and tells attention by with(…):
///
///     T a multiple of the context    B = T / N sequences of N = context tokens (training)
///     T < context                    one sequence of N = T tokens (a text that is still short)
///     T = 0                          no sequence
///     anything else                  std::invalid_argument
#pragma once

#include <tokennorm/tokennorm.hpp>

#include <stdexcept>
#include <string>

namespace gpt {

using tokennorm::Index;

struct Sequences {
  Index count = 0;   // B
  Index length = 0;  // N
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
