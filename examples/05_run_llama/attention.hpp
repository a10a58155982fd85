// SPDX-License-Identifier: MIT
/// Grouped-query attention with rotary positions and a KV cache.
///
///     [q k v] = x·Wᵀ                             of the new tokens; q and k are rotated, and k and
///                                                v join those of the session
///     Oₕ = softmax(qₕ·kᵀ / √D, over j ≤ i)·v      k and v of key head h / (heads / kv heads)
///     y = O·W'ᵀ
///
/// Shapes     x, y, O (T, C) · q (T, heads·D) · k, v (n, kv heads·D), n tokens with the new ones
/// Source     Ainslie et al. 2023, arXiv:2305.13245
#pragma once

#include "common/causal_attention.hpp"
#include "common/rotary.hpp"
#include "session.hpp"

#include <cmath>
#include <memory>
#include <utility>

namespace llama {

struct Attention {
  using Rotations = examples::Rotations<float>;

  Attention(const Config& config, std::shared_ptr<const Rotations> turns)
      : input(config.channels + 2 * config.kv_channels(), config.channels),
        output(config.channels, config.channels),
        heads(config.heads),
        kv_heads(config.kv_heads),
        rotations(std::move(turns)) {}

  void operator()(const Tokens& x, Tokens& y, Session& session, const Threads& threads,
                  tokennorm::BlockIndex block) const {
    const Index count = x.rows(), channels = x.cols(), d = channels / heads;
    const Index kv_channels = kv_heads * d, first = session.position, seen = first + count;
    Session::Cache& cache = session.blocks[static_cast<std::size_t>(block.value)];
    multiply(x, input, session.qkv, threads);
    for (Index t = 0; t < count; ++t) {
      rotations->rotate(first + t, session.qkv.row(t).head(channels + kv_channels));
    }
    cache.keys.middleRows(first, count) = session.qkv.middleCols(channels, kv_channels);
    cache.values.middleRows(first, count) = session.qkv.rightCols(kv_channels);

    session.mixed.resize(count, channels);
    const float score_scale = 1 / std::sqrt(static_cast<float>(d));
    threads.parallel_for(heads, grain_of(2 * count * seen * d), [&](Index begin, Index end) {
      Tokens a(count, seen);
      for (Index head = begin; head < end; ++head) {
        const Index kv = head / (heads / kv_heads) * d;
        examples::attend(session.qkv.middleCols(head * d, d), cache.keys.block(0, kv, seen, d),
                         cache.values.block(0, kv, seen, d), score_scale, a,
                         session.mixed.middleCols(head * d, d));
      }
    });
    multiply(session.mixed, output, y, threads);
  }

  Tokens input, output;  // W, the rows of q, then k, then v; W'
  Index heads, kv_heads;
  std::shared_ptr<const Rotations> rotations;
};

}  // namespace llama
