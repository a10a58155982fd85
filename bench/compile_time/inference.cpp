// SPDX-License-Identifier: MIT
// A unit that includes everything and runs one norm and one block: bench/compile_time.sh
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

void normalize(const tokennorm::LayerNorm<float>& norm, const Tokens& x, Tokens& y) { norm(x, y); }

void run_block(const tokennorm::LayerNorm<float>& norm, const Tokens& x, Tokens& y) {
  const auto attention = [](const Tokens& n, Tokens& out) { out = n; };
  const auto feed_forward = [](const Tokens& n, Tokens& out) { out = n * 2.0f; };
  const tokennorm::PreLN block(norm, attention, norm, feed_forward);
  block(x, y);
}
