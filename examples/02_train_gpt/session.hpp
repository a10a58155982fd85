// SPDX-License-Identifier: MIT
/// A text that a model goes on reading: a KV cache.
///
/// Attention looks back at the keys and values of all earlier tokens, and these never change. A
/// session keeps them, so that each token goes through the model once:
///
///     stack(x, y, workspace, with(session))         attention(n, session, block)
///
/// The model is const: any number of sessions may go through it.
///
/// Shapes     keys, values (N, C) in each block: a row for each position of the context, all heads
///            side by side; the first `position` rows are in use
#pragma once

#include "parameters.hpp"

#include <cstddef>
#include <vector>

namespace gpt {

template <class Scalar>
struct Session {
  struct Cache {
    TokenMatrix<Scalar> keys, values;
  };

  Session(Index block_count, Index context, Index channels)
      : blocks(static_cast<std::size_t>(block_count),
               {TokenMatrix<Scalar>(context, channels), TokenMatrix<Scalar>(context, channels)}) {}

  Index position = 0;  // of the next token: so many were read. 0 starts again
  std::vector<Cache> blocks;

  Cache& operator[](BlockIndex block) { return blocks[static_cast<std::size_t>(block.value)]; }
};

}  // namespace gpt
