// SPDX-License-Identifier: MIT
// Llama's decoder step: Pre-LN with RMSNorm, and a KV cache that is given to the call, so that the
// model is const. Token by token it gives what it gives of all tokens at once.
#include <tokennorm/tokennorm.hpp>

#include <cmath>
#include <iostream>
#include <utility>
#include <vector>

using tokennorm::Index, tokennorm::PreLN, tokennorm::RMSNorm, tokennorm::with;
using Tokens = tokennorm::TokenMatrix<float>;

struct Session {  // a text: how much of it was read, and the keys and values of each block
  Index position = 0;
  std::vector<std::pair<Tokens, Tokens>> caches;  // (context, C)
};

struct Attention {  // one head, without rotary positions
  Tokens qkv = Tokens::Random(16, 48), output = Tokens::Random(16, 16);
  void operator()(const Tokens& n, Tokens& y, Session& session, tokennorm::BlockIndex block) const {
    auto& [keys, values] = session.caches[static_cast<std::size_t>(block)];
    const Index count = n.rows(), channels = n.cols(), first = session.position;
    const Tokens now = n * qkv;
    keys.middleRows(first, count) = now.middleCols(channels, channels);
    values.middleRows(first, count) = now.rightCols(channels);
    for (Index t = 0, seen = first + 1; t < count; ++t, ++seen) {  // softmax(q·kᵀ/√C)·v·W
      Eigen::RowVectorXf a = now.row(t).head(channels) * keys.topRows(seen).transpose();
      a = ((a.array() - a.maxCoeff()) / std::sqrt(static_cast<float>(channels))).exp();
      y.row(t) = a / a.sum() * values.topRows(seen) * output;
    }
  }
};

struct FeedForward {  // SwiGLU: (silu(n·W)∘(n·U))·V, silu(g) = g/(1 + e⁻ᵍ); it takes no session
  Tokens w = Tokens::Random(16, 32), u = Tokens::Random(16, 32), v = Tokens::Random(32, 16);
  void operator()(const Tokens& n, Tokens& y) const {
    const Eigen::ArrayXXf g = n * w;
    y = (g / (1 + (-g).exp()) * (n * u).array()).matrix() * v;
  }
};

int main() {
  const RMSNorm<float> norm(16, {.epsilon = 1e-5});
  const std::vector blocks = {PreLN(norm, Attention(), norm, FeedForward()),
                              PreLN(norm, Attention(), norm, FeedForward())};
  const tokennorm::Stack llama(tokennorm::NoNorm{}, blocks, norm);
  const Tokens x = Tokens::Random(8, 16);
  Session at_once{0, {blocks.size(), {x, x}}}, session = at_once;  // with memory for 8 tokens
  const Tokens expected = llama(x, with(at_once));
  Tokens y(8, 16);
  tokennorm::Workspace<float> workspace;  // kept, it saves the allocations of a step
  for (Index& t = session.position; t < 8; ++t) llama(x.row(t), y.row(t), workspace, with(session));
  const float error = (y - expected).norm() / expected.norm();
  std::cout << "token by token and all at once differ by " << error << " of the result\n";
  if (error < 1e-5f) return 0;
  std::cerr << "llama_decoding: one text read in two ways gave two results\n";
  return 1;
}
