// SPDX-License-Identifier: MIT
/// A micro-batch in training: how its tokens fall into sequences, and what its backward needs.
///
/// The trainer owns it. The model gives it to tokennorm's stack, and the stack to each sublayer,
/// together with the number of the sublayer's block:
///
///     stack.forward(x, y, record, with(batch))      attention.forward(n, batch, block)
///     stack.backward(dy, dx, record, with(batch))   attention.backward(dy, batch, block)
///
/// What tokennorm's own backward needs is in its TrainingRecord. So a forward leaves nothing in the
/// model, and several micro-batches may be between their forward and their backward at once.
#pragma once

#include "parameters.hpp"
#include "sequences.hpp"

#include <cstddef>
#include <vector>

namespace gpt {

template <class Scalar>
struct Batch {
  using Tokens = TokenMatrix<Scalar>;

  struct Attention {
    Tokens x;        // (T, C), what forward was given
    Tokens qkv;      // (T, 3C): Q of all heads, then K, then V, after any rotation
    Tokens weights;  // (B·heads·N, N): A of each sequence and head, one below the other
    Tokens mixed;    // (T, C): O
  };
  struct FeedForward {
    Tokens x;       // (T, C), what forward was given
    Tokens hidden;  // (T, 4C): h, or of a gated one [g u]
    Tokens active;  // (T, 4C): gelu(h), or silu(g)∘u
  };
  struct Block {
    Attention attention;
    FeedForward feed_forward;
  };

  Sequences sequences;
  std::vector<int> ids;       // what the embedding was given
  std::vector<Block> blocks;  // of the stack
  Tokens head_input;          // what the head was given

  Block& operator[](BlockIndex block) { return blocks[static_cast<std::size_t>(block.value)]; }
};

}  // namespace gpt
