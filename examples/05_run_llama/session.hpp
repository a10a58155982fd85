// SPDX-License-Identifier: MIT
/// What a call works with: a session, which is a text that the model goes on reading, and threads.
///
///     stack(x, y, session.workspace, with(session, threads), threads)
///     multiply(x, w, y, threads)                                           y = x·Wᵀ
///
/// Shapes     keys, values (context, kv heads·D) in each block: the first `position` rows are those
///            of the tokens that were read, the keys rotated
///            x (T, inputs) · W (outputs, inputs), as PyTorch's Linear has it · y (T, outputs)
#pragma once

#include "common/llama2c.hpp"
#include <tokennorm/adapters/thread_pool.hpp>
#include <tokennorm/tokennorm.hpp>

#include <algorithm>
#include <vector>

namespace llama {

using Config = examples::LlamaConfig;
using Threads = tokennorm::ThreadPoolExecutor;
using Tokens = tokennorm::TokenMatrix<float>;
using tokennorm::Index;

struct Session {
  struct Cache {
    Tokens keys, values;
  };
  explicit Session(const Config& config)
      : blocks(static_cast<std::size_t>(config.layers),
               {Tokens(config.context, config.kv_channels()),
                Tokens(config.context, config.kv_channels())}) {}

  Index position = 0;  // of the next token; 0 starts again
  std::vector<Cache> blocks;
  tokennorm::Workspace<float> workspace;
  Tokens x, y, qkv, mixed, gate, hidden, logits;  // of one call, so that it need not allocate
};

/// So many outputs, of this many multiplications each, are worth handing to another thread.
inline Index grain_of(Index multiplications) {
  return std::max<Index>(1, 65536 / std::max<Index>(1, multiplications));
}

/// Columns [begin, end) of y.
inline void multiply(const Tokens& x, const Tokens& w, Tokens& y, Index begin, Index end) {
  const auto rows = w.middleRows(begin, end - begin);
  if (x.rows() == 1) {
    y.row(0).segment(begin, end - begin).transpose().noalias() = rows * x.row(0).transpose();
  } else {
    y.middleCols(begin, end - begin).noalias() = x * rows.transpose();
  }
}

inline void multiply(const Tokens& x, const Tokens& w, Tokens& y, const Threads& threads) {
  y.resize(x.rows(), w.rows());
  threads.parallel_for(w.rows(), grain_of(x.size()),
                       [&](Index begin, Index end) { multiply(x, w, y, begin, end); });
}

}  // namespace llama
