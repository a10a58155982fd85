// SPDX-License-Identifier: MIT
// OLMo 2: the norms stand on the updates, h = x + N(f(x)), and attention has norms of its own on q
// and k, over all their channels. Qwen 3 and Gemma 3 norm each head of q and k: heads(q, …). Both
// run in place, in a slice of the fused q, k, v.
#include <tokennorm/tokennorm.hpp>

#include <iostream>

using tokennorm::Index, tokennorm::RMSNorm, tokennorm::heads;
using Tokens = tokennorm::TokenMatrix<float>;

struct Attention {  // softmax(q·kᵀ)·v, one head; it sees all tokens
  Tokens qkv;
  RMSNorm<float> q_norm, k_norm;

  Tokens operator()(const Tokens& n) const {
    Tokens x = n * qkv;
    auto q = x.leftCols(n.cols()), k = x.middleCols(n.cols(), n.cols());
    q_norm(q, q);  // of each head: q_norm(heads(q, head_channels), heads(q, head_channels))
    k_norm(k, k);
    const Tokens a = (q * k.transpose()).array().exp();
    return a.rowwise().sum().cwiseInverse().asDiagonal() * a * x.rightCols(n.cols());
  }
};

/// x/√(mean(x²) + ε) of each row, in double
Eigen::MatrixXd rms_norm(const Eigen::MatrixXd& x) {
  return (x.array().square().rowwise().mean() + 1e-6).rsqrt().matrix().asDiagonal() * x;
}

int main() {
  constexpr Index channels = 16, head_channels = 4;
  const RMSNorm<float> norm(channels);
  Attention attention{Tokens::Random(channels, 3 * channels), norm, norm};
  const auto feed_forward = [](const Tokens& n) -> Tokens { return n.array().cube(); };
  const tokennorm::ResPostLN block(attention, norm, feed_forward, norm);

  const Tokens x = Tokens::Random(5, channels), y = block(x), update = attention(x);
  const Eigen::MatrixXd h = x.cast<double>() + rms_norm(update.cast<double>());
  const Eigen::MatrixXd expected = h + rms_norm(h.array().cube());
  const double error = (y.cast<double>() - expected).norm();

  attention.qkv.leftCols(2 * channels) *= 1000;  // of q and k as they are normalized: no matter
  const float change = (attention(x) - update).norm();

  Tokens q = x;  // each head as if it were a token of its own
  const RMSNorm<float> head_norm(head_channels);
  head_norm(heads(q, head_channels), heads(q, head_channels));
  double head_error = 0;
  for (Index c = 0; c < channels; c += head_channels) {
    const Eigen::MatrixXd head = rms_norm(x.middleCols(c, head_channels).cast<double>());
    head_error += (q.middleCols(c, head_channels).cast<double>() - head).norm();
  }
  std::cout << "block: off by " << error << "; 1000 times q and k change attention by " << change
            << "; heads: off by " << head_error << '\n';
  if (error < 1e-5 && change < 1e-4f && head_error < 1e-5) return 0;
  std::cerr << "olmo2_qk_norm: the block, QK norm or the norm of heads is not what it should be\n";
  return 1;
}
