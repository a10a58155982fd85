// SPDX-License-Identifier: MIT
// nn.TransformerEncoderLayer of PyTorch, norm_first true and false, as PreLN and PostLN blocks:
// tests/golden/make_golden.py made the files, in double.
//
// Attention and feed-forward are plain products on either side, whose order of summation differs:
// results of size 1 to 10 through half a dozen of them agree to some hundred units of 2⁻⁵³.
#include <tokennorm/block/blocks.hpp>
#include <tokennorm/checkpoint/safetensors.hpp>
#include <tokennorm/norm/layer_norm.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<double>;

/// y = x·Wᵀ + b, with W (out, in) as PyTorch stores it. Only the input's gradient is of interest.
struct Linear {
  Linear(const Safetensors& file, const std::string& weight_name, const std::string& bias_name)
      : weight(file.matrix<double>(weight_name)), bias(file.matrix<double>(bias_name)) {}

  Tokens operator()(const Tokens& x) const {
    return (x * weight.transpose()).rowwise() + bias.row(0);
  }
  Tokens backward(const Tokens& dy) const { return dy * weight; }

  Tokens weight, bias;
};

/// Two sequences of five tokens; each token sees all of its own sequence.
struct Attention {
  explicit Attention(const Safetensors& file)
      : heads(std::stol(file.metadata().at("heads"))),
        length(file.shape("x")[1]),
        in(file, "self_attn.in_proj_weight", "self_attn.in_proj_bias"),
        out(file, "self_attn.out_proj.weight", "self_attn.out_proj.bias") {}

  /// Calls f with the views of one head of one sequence in [Q K V], and with what it has in O.
  template <class QKV, class O, class F>
  void for_each_head(QKV& qkv, O& o, const F& f) const {
    const Index channels = o.cols(), size = channels / heads;
    for (Index row = 0; row < o.rows(); row += length)
      for (Index column = 0; column < channels; column += size)
        f(qkv.block(row, column, length, size), qkv.block(row, channels + column, length, size),
          qkv.block(row, 2 * channels + column, length, size), o.block(row, column, length, size));
  }

  /// softmax(Q·Kᵀ / √D)
  template <class Q, class K>
  static Tokens weights(const Q& q, const K& k) {
    Tokens scores = q * k.transpose() / std::sqrt(static_cast<double>(q.cols()));
    scores.colwise() -= scores.rowwise().maxCoeff().eval();
    scores = scores.array().exp();
    scores.array().colwise() /= scores.rowwise().sum().array().eval();
    return scores;
  }

  Tokens operator()(const Tokens& x) const {
    Tokens o(x.rows(), x.cols());
    const Tokens qkv = in(x);
    for_each_head(qkv, o, [](auto q, auto k, auto v, auto head) { head = weights(q, k) * v; });
    return out(o);
  }

  Tokens forward(const Tokens& x) {
    qkv_ = in(x);
    return (*this)(x);
  }
  Tokens backward(const Tokens& dy) {
    Tokens dqkv(qkv_.rows(), qkv_.cols());
    const Tokens d_o = out.backward(dy);
    std::vector<Tokens> dq, dk, dv;
    for_each_head(qkv_, d_o, [&](auto q, auto k, auto v, auto dhead) {
      const Tokens a = weights(q, k), da = dhead * v.transpose();
      Tokens ds = a.cwiseProduct(da);  // dS = A∘(dA − rowsum(A∘dA)) / √D
      ds -= a.cwiseProduct(ds.rowwise().sum().replicate(1, a.cols()).eval());
      ds /= std::sqrt(static_cast<double>(q.cols()));
      dq.push_back(ds * k);
      dk.push_back(ds.transpose() * q);
      dv.push_back(a.transpose() * dhead);
    });
    std::size_t head = 0;
    Tokens unused = d_o;
    for_each_head(dqkv, unused, [&](auto to_q, auto to_k, auto to_v, auto) {
      to_q = dq[head];
      to_k = dk[head];
      to_v = dv[head++];
    });
    return in.backward(dqkv);
  }

  Index heads, length;
  Linear in, out;
  Tokens qkv_;
};

struct FeedForward {
  explicit FeedForward(const Safetensors& file)
      : up(file, "linear1.weight", "linear1.bias"), down(file, "linear2.weight", "linear2.bias") {}

  Tokens operator()(const Tokens& x) const { return down(up(x).cwiseMax(0)); }
  Tokens forward(const Tokens& x) {
    hidden_ = up(x);
    return (*this)(x);
  }
  Tokens backward(const Tokens& dy) const {
    const Tokens open = (hidden_.array() > 0).cast<double>();
    return up.backward(down.backward(dy).cwiseProduct(open));
  }

  Linear up, down;
  Tokens hidden_;
};

LayerNorm<double> norm_of(const Safetensors& file, const std::string& name) {
  LayerNorm<double> norm(file.shape(name + ".weight")[0],
                         {.epsilon = std::stod(file.metadata().at("epsilon"))});
  norm.scale() = file.matrix<double>(name + ".weight").transpose();
  norm.shift() = file.matrix<double>(name + ".bias").transpose();
  return norm;
}

/// Relative to the largest value.
void expect_near(const char* what, const Tokens& found, const Tokens& expected) {
  ASSERT_EQ(found.rows(), expected.rows()) << what;
  ASSERT_EQ(found.cols(), expected.cols()) << what;
  const double size = expected.cwiseAbs().maxCoeff();
  EXPECT_GT(size, 0.1) << what;
  EXPECT_LE((found - expected).cwiseAbs().maxCoeff(), 256 * 0x1p-53 * size) << what;
}

template <class Block>
void expect_encoder(Block block, const Safetensors& file) {
  const Tokens x = file.matrix<double>("x");
  expect_near("y", block(x), file.matrix<double>("y"));
  expect_near("y of forward", block.forward(x), file.matrix<double>("y"));
  expect_near("dx", block.backward(file.matrix<double>("dy")), file.matrix<double>("dx"));
  const std::map<std::string, const char*> golden = {
      {"attention_norm.scale", "norm1.weight.grad"},
      {"attention_norm.shift", "norm1.bias.grad"},
      {"feed_forward_norm.scale", "norm2.weight.grad"},
      {"feed_forward_norm.shift", "norm2.bias.grad"},
      {"attention_output_norm.scale", "norm1.weight.grad"},
      {"attention_output_norm.shift", "norm1.bias.grad"},
      {"feed_forward_output_norm.scale", "norm2.weight.grad"},
      {"feed_forward_output_norm.shift", "norm2.bias.grad"}};
  int gradients = 0;
  block.visit_parameters([&](const std::string& name, auto, auto gradient) {
    SCOPED_TRACE(name);
    ++gradients;
    expect_near("gradient", gradient.transpose(), file.matrix<double>(golden.at(name)));
  });
  EXPECT_EQ(gradients, 4);
}

TEST(GoldenEncoder, NormFirstIsPreLN) {
  const auto file = Safetensors::open(TOKENNORM_GOLDEN "/encoder_pre.safetensors");
  expect_encoder(
      PreLN(norm_of(file, "norm1"), Attention(file), norm_of(file, "norm2"), FeedForward(file)),
      file);
}

TEST(GoldenEncoder, NormLastIsPostLN) {
  const auto file = Safetensors::open(TOKENNORM_GOLDEN "/encoder_post.safetensors");
  expect_encoder(
      PostLN(Attention(file), norm_of(file, "norm1"), FeedForward(file), norm_of(file, "norm2")),
      file);
}

}  // namespace
}  // namespace tokennorm::test
