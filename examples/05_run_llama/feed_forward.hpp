// SPDX-License-Identifier: MIT
/// SwiGLU:  y = (silu(x·Gᵀ)∘(x·Uᵀ))·Dᵀ,  silu(g) = g / (1 + e⁻ᵍ).
///
/// Shapes     x, y (T, C) · G, U (H, C) · D (C, H)
/// Source     Shazeer 2020, arXiv:2002.05202, eq. 6
#pragma once

#include "session.hpp"

namespace llama {

struct FeedForward {
  explicit FeedForward(const Config& config)
      : gate(config.hidden, config.channels),
        up(config.hidden, config.channels),
        down(config.channels, config.hidden) {}

  void operator()(const Tokens& x, Tokens& y, Session& session, const Threads& threads) const {
    session.gate.resize(x.rows(), gate.rows());
    session.hidden.resize(x.rows(), up.rows());
    threads.parallel_for(gate.rows(), grain_of(2 * x.size()), [&](Index begin, Index end) {
      multiply(x, gate, session.gate, begin, end);
      multiply(x, up, session.hidden, begin, end);
      const auto g = session.gate.middleCols(begin, end - begin).array();
      session.hidden.middleCols(begin, end - begin).array() *= g / (1 + (-g).exp());
    });
    multiply(session.hidden, down, y, threads);
  }

  Tokens gate, up, down;  // G, U, D
};

}  // namespace llama
