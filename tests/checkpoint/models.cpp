// SPDX-License-Identifier: MIT
// Well-known models, put together from public names and compared with their equations.
//
// Each test is one model: how it is written, the keys of its checkpoints where a family has them,
// and the equations of a block on exact tokens, without fusion. Norms have the model's kind, ε and
// scale offset; attention is a causal mean, a feed-forward a linear map.
#include "../block/equations.hpp"
#include "../block/sublayers.hpp"
#include "../norm/norm_kinds.hpp"
#include "../support/exact_bits.hpp"
#include "tensor_file.hpp"
#include <tokennorm/checkpoint/families.hpp>
#include <tokennorm/checkpoint/make_norm.hpp>
#include <tokennorm/checkpoint/names.hpp>
#include <tokennorm/tokennorm.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<float>;
constexpr Index channels = 12, token_count = 6, encoder_tokens = 4;
constexpr std::size_t layers = 2;

const CausalMean<float> attention(channels, {1});
const Linear<float> feed_forward(channels, {2});

/// A stack whose parts become different ones: each value moves away from where it was.
template <class First, class Block, class Last>
auto stack_of(const First& embedding_norm, const Block& block, const Last& final_norm) {
  Stack stack(embedding_norm, std::vector(layers, block), final_norm);
  Random random(Seed{11});
  stack.visit_parameters([&](const std::string&, auto& value, auto&) {
    value += random_normal<Eigen::VectorXf>({value.size(), 1}, random, 0, 0.3);
  });
  return stack;
}

/// What a norm is called in a file and in the stack; {} is the number of the layer. Without a place
/// in the stack it is a norm of another part of the model.
struct Key {
  std::string in_file, in_stack;
};

/// The stack loads a file with these norms, and each gets the values of its own key.
template <class Model>
void check_loading(Model& model, const Family& family, const std::vector<Key>& keys) {
  TensorFile file;
  std::map<std::string, Eigen::VectorXf> expected;
  Random random(Seed{12});
  const auto add = [&](const Key& key, std::size_t layer, const Key& parameter) {
    const auto numbered = [&](std::string name) {
      const std::size_t at = name.find("{}");
      return at == std::string::npos ? name : name.replace(at, 2, std::to_string(layer));
    };
    const auto value = random_normal<Eigen::VectorXf>({channels, 1}, random, 0.5);
    file.add(numbered(key.in_file) + parameter.in_file, value);
    if (!key.in_stack.empty()) expected[numbered(key.in_stack) + parameter.in_stack] = value;
  };
  for (const Key& key : keys) {
    for (std::size_t layer = 0; layer < layers; ++layer) {
      add(key, layer, {".weight", ".scale"});
      if (family.has_shift()) add(key, layer, {".bias", ".shift"});
    }
  }
  load_norms(model, file, family);
  model.visit_parameters([&](const std::string& name, auto& value, auto&) {
    if (name.find("_norm.") == std::string::npos) return;  // of a sublayer
    EXPECT_TRUE(same_bits(value, expected[name])) << name;
    expected.erase(name);
  });
  EXPECT_TRUE(expected.empty()) << expected.begin()->first << " is in the file alone";
}

/// A norm by the oracle, or none.
constexpr auto normed = [](const auto& norm, const ExactMatrix& h) -> ExactMatrix {
  return Exactly::apply(norm, h);
};

/// A stack whose blocks are h ← block(b, h).
template <class Model, class BlockEquation>
ExactMatrix equation(const Model& model, const BlockEquation& block, const ExactMatrix& x) {
  ExactMatrix h = normed(model.embedding_norm(), x);
  for (const auto& b : model.blocks()) block(b, h);
  return normed(model.final_norm(), h);
}

/// Small, so that ε counts in the first norm.
Tokens input() { return random_normal<Tokens>({token_count, channels}, Seed{13}, 0, 0.01); }

void expect_near(const Tokens& y, const ExactMatrix& expected) {
  ASSERT_EQ(y.rows(), expected.rows());
  EXPECT_LE((exact(y) - expected).cwiseAbs().maxCoeff(), 2e-6L * expected.cwiseAbs().maxCoeff());
}

/// A forward, and dx of Σ dy∘y in a random direction against a central difference in long double.
template <class Model, class Equation>
void expect_trains(Model& model, const Tokens& x, const Equation& whole) {
  const Tokens y = model.forward(x);
  expect_near(y, whole(exact(x)));
  const auto dy = random_normal<Tokens>({y.rows(), channels}, Seed{14});
  const ExactMatrix dx = exact(model.backward(dy));
  const auto direction = random_normal<ExactMatrix>({x.rows(), channels}, Seed{15});
  const auto loss = [&](long double step) {
    return exact(dy).cwiseProduct(whole(exact(x) + step * direction)).sum();
  };
  const long double expected = (loss(0x1p-24L) - loss(-0x1p-24L)) * 0x1p+23L;
  const long double error = std::abs(dx.cwiseProduct(direction).sum() - expected);
  EXPECT_LE(error, 1e-6L * dx.norm() * direction.norm());
}

template <class Model, class Equation>
void expect_model(Model& model, const Tokens& x, const Equation& whole) {
  expect_near(model(x), whole(exact(x)));
  expect_trains(model, x, whole);
  EXPECT_TRUE(same_bits(model.forward(x), model(x)));
}

/// Inference and training of a stack whose blocks are block(b, h).
template <class Model, class BlockEquation>
void expect_is(Model& model, const BlockEquation& block) {
  expect_model(model, input(), [&](const ExactMatrix& x) { return equation(model, block, x); });
}

constexpr auto pre_ln = [](const auto& b, ExactMatrix& h) {
  h += b.attention()(normed(b.attention_norm(), h));
  h += b.feed_forward()(normed(b.feed_forward_norm(), h));
};

constexpr auto sandwich_ln = [](const auto& b, ExactMatrix& h) {
  h += normed(b.attention_output_norm(), b.attention()(normed(b.attention_norm(), h)));
  h += normed(b.feed_forward_output_norm(), b.feed_forward()(normed(b.feed_forward_norm(), h)));
};

// BERT: Post-LN with an embedding norm and no final norm.
// transformers, modeling_bert.py: BertEmbeddings, BertSelfOutput, BertOutput.
TEST(Models, BERT) {
  const auto norm = make_norm<float>(families::bert, channels);
  auto model = stack_of(norm, PostLN(attention, norm, feed_forward, norm), NoNorm{});
  check_loading(model, families::bert,
                {{"bert.embeddings.LayerNorm", "embedding_norm"},
                 {"bert.encoder.layer.{}.attention.output.LayerNorm", "blocks.{}.attention_norm"},
                 {"bert.encoder.layer.{}.output.LayerNorm", "blocks.{}.feed_forward_norm"},
                 {"cls.predictions.transform.LayerNorm", ""}});
  expect_is(model, [](const auto& b, ExactMatrix& h) {
    h = normed(b.attention_norm(), h + b.attention()(h));
    h = normed(b.feed_forward_norm(), h + b.feed_forward()(h));
  });
}

// GPT-2: Pre-LN with a final norm.
// Radford et al. 2019, section 2.3; openai/gpt-2, src/model.py: block, model.
TEST(Models, GPT2) {
  const LayerNorm<float> norm(channels, {.epsilon = 1e-5});
  auto model = stack_of(NoNorm{}, PreLN(norm, attention, norm, feed_forward), norm);
  check_loading(model, families::gpt2,
                {{"transformer.h.{}.ln_1", "blocks.{}.attention_norm"},
                 {"transformer.h.{}.ln_2", "blocks.{}.feed_forward_norm"},
                 {"transformer.ln_f", "final_norm"},
                 {"transformer.h.{}.attn.c_proj", ""}});
  expect_is(model, pre_ln);
}

// BLOOM: Pre-LN with an embedding norm and a final norm.
// transformers, modeling_bloom.py: BloomBlock, BloomModel.
TEST(Models, BLOOM) {
  const LayerNorm<float> norm(channels, {.epsilon = 1e-5});
  auto model = stack_of(norm, PreLN(norm, attention, norm, feed_forward), norm);
  check_loading(model, families::bloom,
                {{"word_embeddings_layernorm", "embedding_norm"},
                 {"h.{}.input_layernorm", "blocks.{}.attention_norm"},
                 {"h.{}.post_attention_layernorm", "blocks.{}.feed_forward_norm"},
                 {"ln_f", "final_norm"}});
  expect_is(model, pre_ln);
}

const std::vector<Key> llama_keys = {
    {"model.layers.{}.input_layernorm", "blocks.{}.attention_norm"},
    {"model.layers.{}.post_attention_layernorm", "blocks.{}.feed_forward_norm"},
    {"model.norm", "final_norm"}};

// Llama 3: Pre-LN with RMSNorm; ε is that of its config.json.
// transformers, modeling_llama.py: LlamaDecoderLayer, LlamaModel.
TEST(Models, Llama) {
  const auto norm = make_norm<float>(families::llama, channels, {.epsilon = 1e-5});
  auto model = stack_of(NoNorm{}, PreLN(norm, attention, norm, feed_forward), norm);
  check_loading(model, families::llama, llama_keys);
  expect_is(model, pre_ln);
}

// Granite: Llama's norms and keys, each update times the residual multiplier.
// transformers, modeling_granite.py: GraniteDecoderLayer.
TEST(Models, Granite) {
  const RMSNorm<float> norm(channels, {.epsilon = 1e-5});
  const PreLN block(norm, Scaled(attention, 0.22), norm, Scaled(feed_forward, 0.22));
  auto model = stack_of(NoNorm{}, block, norm);
  check_loading(model, families::granite, llama_keys);
  expect_is(model, [](const auto& b, ExactMatrix& h) {
    h += 0.22L * b.attention().sublayer()(normed(b.attention_norm(), h));
    h += 0.22L * b.feed_forward().sublayer()(normed(b.feed_forward_norm(), h));
  });
}

// Gemma 2: Sandwich-LN with RMSNorm, whose factor is 1 + γ.
// transformers, modeling_gemma2.py: Gemma2RMSNorm, Gemma2DecoderLayer.
TEST(Models, Gemma2) {
  const auto norm = make_norm<float>(families::gemma2, channels);
  const SandwichLN block(norm, attention, norm, norm, feed_forward, norm);
  auto model = stack_of(NoNorm{}, block, norm);
  const std::string layer = "model.layers.{}.";
  check_loading(model, families::gemma2,
                {{layer + "input_layernorm", "blocks.{}.attention_norm"},
                 {layer + "post_attention_layernorm", "blocks.{}.attention_output_norm"},
                 {layer + "pre_feedforward_layernorm", "blocks.{}.feed_forward_norm"},
                 {layer + "post_feedforward_layernorm", "blocks.{}.feed_forward_output_norm"},
                 {"model.norm", "final_norm"}});
  expect_is(model, sandwich_ln);
}

// Peri-LN: Sandwich-LN with an embedding norm and a final norm.
// Kim et al. 2025, arXiv:2502.02732, section 3.
TEST(Models, PeriLN) {
  const AnyNorm<float> norm(NormKind::rms_norm, channels, {.epsilon = 1e-6});
  auto model = stack_of(norm, SandwichLN(norm, attention, norm, norm, feed_forward, norm), norm);
  expect_is(model, sandwich_ln);
}

// OLMo 2: RMSNorm on what each sublayer gives, and a final norm.
// transformers, modeling_olmo2.py: Olmo2DecoderLayer.
TEST(Models, OLMo2) {
  const RMSNorm<float> norm(channels, {.epsilon = 1e-6});
  auto model = stack_of(NoNorm{}, ResPostLN(attention, norm, feed_forward, norm), norm);
  const std::string layer = "model.layers.{}.";
  check_loading(model, families::olmo2,
                {{layer + "post_attention_layernorm", "blocks.{}.attention_output_norm"},
                 {layer + "post_feedforward_layernorm", "blocks.{}.feed_forward_output_norm"},
                 {"model.norm", "final_norm"},
                 {layer + "self_attn.q_norm", ""},
                 {layer + "self_attn.k_norm", ""}});
  expect_is(model, [](const auto& b, ExactMatrix& h) {
    h += normed(b.attention_output_norm(), b.attention()(h));
    h += normed(b.feed_forward_output_norm(), b.feed_forward()(h));
  });
}

/// A model with stochastic depth: block(b, h, s), where s(sublayer) are the factors of the tokens.
template <class Make, class BlockEquation>
void expect_drops(const Make& make, const Family& family, const std::vector<Key>& keys,
                  const BlockEquation& block) {
  const auto with_factors = [&](const auto& s) {
    return [&block, s](const auto& b, ExactMatrix& h) { block(b, h, s); };
  };
  const auto inferred =
      with_factors([](const auto&) -> ExactVector { return ExactVector::Ones(token_count); });
  const auto trained = with_factors([](auto drop_path) {  // a copy: it draws what is drawn next
    Eigen::VectorXf factors;
    drop_path.draw(token_count, factors);
    return exact_vector(factors);
  });
  auto never = make(0.0), dropping = make(0.5);
  check_loading(never, family, keys);
  expect_is(never, inferred);
  const auto before = dropping;
  expect_near(dropping(input()), equation(before, inferred, exact(input())));
  expect_trains(dropping, input(), [&](const auto& x) { return equation(before, trained, x); });
}

// A stage of Swin v2: LayerNorm on what each sublayer gives, stochastic depth behind it.
// Liu et al. 2022, arXiv:2111.09883, section 3.2; transformers, modeling_swinv2.py: Swinv2Layer.
TEST(Models, SwinV2) {
  const LayerNorm<float> norm(channels, {.epsilon = 1e-5});
  const auto make = [&](double p) {
    const DropPath f(attention, p, 2, 21);
    const DropPath g(feed_forward, p, 2, 22);
    return stack_of(NoNorm{}, ResPostLN(f, norm, g, norm), NoNorm{});
  };
  const std::string layer = "swinv2.encoder.layers.0.blocks.{}.";
  const std::vector<Key> keys = {{"swinv2.embeddings.norm", ""},
                                 {layer + "layernorm_before", "blocks.{}.attention_output_norm"},
                                 {layer + "layernorm_after", "blocks.{}.feed_forward_output_norm"},
                                 {"swinv2.encoder.layers.1.blocks.{}.layernorm_after", ""},
                                 {"swinv2.layernorm", ""}};
  expect_drops(make, families::swinv2, keys, [](const auto& b, ExactMatrix& h, const auto& s) {
    h += s(b.attention()).asDiagonal() * normed(b.attention_output_norm(), b.attention()(h));
    const auto& g = b.feed_forward();
    h += s(g).asDiagonal() * normed(b.feed_forward_output_norm(), g(h));
  });
}

// DINOv2: Pre-LN with a learned factor on each update, and stochastic depth.
// transformers, modeling_dinov2.py: Dinov2LayerScale, Dinov2Layer.
TEST(Models, DINOv2) {
  const LayerNorm<float> norm(channels, {.epsilon = 1e-6});
  const auto make = [&](double p) {
    const DropPath f(LayerScale(attention, channels, 1), p, 2, 21);
    const DropPath g(LayerScale(feed_forward, channels, 1), p, 2, 22);
    return stack_of(NoNorm{}, PreLN(norm, f, norm, g), norm);
  };
  const std::vector<Key> keys = {{"encoder.layer.{}.norm1", "blocks.{}.attention_norm"},
                                 {"encoder.layer.{}.norm2", "blocks.{}.feed_forward_norm"},
                                 {"layernorm", "final_norm"}};
  expect_drops(make, families::dinov2, keys, [](const auto& b, ExactMatrix& h, const auto& s) {
    const auto update = [&](const auto& f, const ExactMatrix& n) -> ExactMatrix {
      const ExactVector scale = exact_vector(f.sublayer().layer_scale());
      return s(f).asDiagonal() * f.sublayer().sublayer()(n) * scale.asDiagonal();
    };
    h += update(b.attention(), normed(b.attention_norm(), h));
    h += update(b.feed_forward(), normed(b.feed_forward_norm(), h));
  });
}

// GPT-J: attention and feed-forward side by side behind one norm.
// Wang, Komatsuzaki 2021; transformers, modeling_gptj.py: GPTJBlock.
TEST(Models, GPTJ) {
  const LayerNorm<float> norm(channels, {.epsilon = 1e-5});
  auto model = stack_of(NoNorm{}, ParallelLN(norm, attention, feed_forward), norm);
  check_loading(
      model, families::gptj,
      {{"transformer.h.{}.ln_1", "blocks.{}.attention_norm"}, {"transformer.ln_f", "final_norm"}});
  expect_is(model, [](const auto& b, ExactMatrix& h) {
    const ExactMatrix n = normed(b.attention_norm(), h);
    h += b.attention()(n) + b.feed_forward()(n);
  });
}

// GPT-NeoX: the two side by side, each behind a norm of its own.
// Black et al. 2022, arXiv:2204.06745, section 2.1; transformers, modeling_gpt_neox.py.
TEST(Models, GPTNeoX) {
  const LayerNorm<float> norm(channels, {.epsilon = 1e-5});
  auto model = stack_of(NoNorm{}, ParallelLN(norm, attention, norm, feed_forward), norm);
  const std::string layer = "gpt_neox.layers.{}.";
  check_loading(model, families::gpt_neox,
                {{layer + "input_layernorm", "blocks.{}.attention_norm"},
                 {layer + "post_attention_layernorm", "blocks.{}.feed_forward_norm"},
                 {"gpt_neox.final_layer_norm", "final_norm"}});
  expect_is(model, [](const auto& b, ExactMatrix& h) {
    h += b.attention()(normed(b.attention_norm(), h)) +
         b.feed_forward()(normed(b.feed_forward_norm(), h));
  });
}

// Cohere: side by side behind one LayerNorm without shift; norms of q and k inside attention.
// transformers, modeling_cohere.py: CohereLayerNorm, CohereDecoderLayer.
TEST(Models, Cohere) {
  const auto norm = make_norm<float>(families::cohere, channels);
  auto model = stack_of(NoNorm{}, ParallelLN(norm, attention, feed_forward), norm);
  check_loading(model, families::cohere,
                {{"model.layers.{}.input_layernorm", "blocks.{}.attention_norm"},
                 {"model.layers.{}.self_attn.q_norm", ""},
                 {"model.layers.{}.self_attn.k_norm", ""},
                 {"model.norm", "final_norm"}});
  expect_is(model, [](const auto& b, ExactMatrix& h) {
    const ExactMatrix n = normed(b.attention_norm(), h);
    h += b.attention()(n) + b.feed_forward()(n);
  });
}

// GLM-4: Sandwich-LN, whose post_attention_layernorm stands before the feed-forward.
// transformers, modeling_glm4.py: Glm4DecoderLayer.
TEST(Models, GLM4) {
  const auto norm = make_norm<float>(families::glm4, channels);
  const SandwichLN block(norm, attention, norm, norm, feed_forward, norm);
  auto model = stack_of(NoNorm{}, block, norm);
  const std::string layer = "model.layers.{}.";
  check_loading(model, families::glm4,
                {{layer + "input_layernorm", "blocks.{}.attention_norm"},
                 {layer + "post_self_attn_layernorm", "blocks.{}.attention_output_norm"},
                 {layer + "post_attention_layernorm", "blocks.{}.feed_forward_norm"},
                 {layer + "post_mlp_layernorm", "blocks.{}.feed_forward_output_norm"},
                 {"model.norm", "final_norm"}});
  expect_is(model, sandwich_ln);
}

/// Cross-attention to a test: n ∘ the mean of the encoder's tokens.
struct CrossMean {
  template <class T>
  TokenMatrix<T> operator()(const TokenMatrix<T>& n, const TokenMatrix<T>& encoded) const {
    return n * encoded.colwise().mean().asDiagonal();
  }
  Tokens forward(const Tokens& n, const Tokens& encoded) { return (*this)(n_ = n, encoded); }
  Tokens backward(const Tokens& dy, const Tokens& encoded) {
    dmean = dy.cwiseProduct(n_).colwise().sum();
    return (*this)(dy, encoded);
  }
  Tokens n_;
  Eigen::RowVectorXf dmean;
};

/// Both as one model, whose encoder sees the first of its tokens, and whose decoder all of them.
template <class Encoder, class Decoder>
struct EncoderDecoder {
  EncoderDecoder(Encoder e, Decoder d) : encoder(std::move(e)), decoder(std::move(d)) {}
  Tokens operator()(const Tokens& x) const {
    return decoder(x, with(encoder(x.topRows(encoder_tokens))));
  }
  Tokens forward(const Tokens& x) {
    encoded = encoder.forward(x.topRows(encoder_tokens));
    return decoder.forward(x, with(encoded));
  }
  Tokens backward(const Tokens& dy) {
    Tokens dx = decoder.backward(dy, with(encoded));
    Tokens dencoded = Tokens::Zero(encoder_tokens, channels);
    for (const auto& b : decoder.blocks())
      dencoded.rowwise() += b.template connection<1>().sublayer().dmean / float(encoder_tokens);
    dx.topRows(encoder_tokens) += encoder.backward(dencoded);
    return dx;
  }
  Encoder encoder;
  Decoder decoder;
  Tokens encoded;
};

// T5: Pre-LN with RMSNorm; a block of the decoder has three connections.
// transformers, modeling_t5.py: T5LayerNorm, T5Block.
TEST(Models, T5) {
  const auto norm = make_norm<float>(families::t5, channels);
  const Block decoder_block(named("attention", PreLNResidual(norm, attention)),
                            named("cross_attention", PreLNResidual(norm, CrossMean())),
                            named("feed_forward", PreLNResidual(norm, feed_forward)));
  EncoderDecoder model(stack_of(NoNorm{}, PreLN(norm, attention, norm, feed_forward), norm),
                       stack_of(NoNorm{}, decoder_block, norm));
  check_loading(model.encoder, families::t5,
                {{"encoder.block.{}.layer.0.layer_norm", "blocks.{}.attention_norm"},
                 {"encoder.block.{}.layer.1.layer_norm", "blocks.{}.feed_forward_norm"},
                 {"encoder.final_layer_norm", "final_norm"},
                 {"decoder.block.{}.layer.1.layer_norm", ""}});
  check_loading(model.decoder, families::t5_decoder,
                {{"decoder.block.{}.layer.0.layer_norm", "blocks.{}.attention_norm"},
                 {"decoder.block.{}.layer.1.layer_norm", "blocks.{}.cross_attention_norm"},
                 {"decoder.block.{}.layer.2.layer_norm", "blocks.{}.feed_forward_norm"},
                 {"decoder.final_layer_norm", "final_norm"}});
  expect_model(model, input(), [&](const ExactMatrix& x) {
    const ExactMatrix encoded = equation(model.encoder, pre_ln, x.topRows(encoder_tokens));
    const auto block = [&](const auto& b, ExactMatrix& h) {
      const auto add = [&](const auto& connection, const auto&... with_encoded) {
        h += connection.sublayer()(normed(connection.norm(), h), with_encoded...);
      };
      add(b.template connection<0>());
      add(b.template connection<1>(), encoded);
      add(b.template connection<2>());
    };
    return equation(model.decoder, block, x);
  });
}

}  // namespace
}  // namespace tokennorm::test
