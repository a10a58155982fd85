// SPDX-License-Identifier: MIT
// Well-known models, put together from public names and compared with their equations.
//
// Each test is one model: how it is written, its equations on exact tokens, without fusion, and,
// where there is a row for its family, the keys of its checkpoints. Norms are the model's own in
// kind, ε and scale offset. Attention is a causal mean, a feed-forward a linear map.
#include "../block/sublayers.hpp"
#include "../norm/norm_kinds.hpp"
#include "../support/exact_bits.hpp"
#include "tensor_file.hpp"
#include <tokennorm/checkpoint/families.hpp>
#include <tokennorm/checkpoint/make_norm.hpp>
#include <tokennorm/checkpoint/names.hpp>
#include <tokennorm/tokennorm.hpp>

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<float>;
using Vector = Eigen::VectorXf;
constexpr Index channels = 12, token_count = 6;
constexpr std::size_t layers = 2;

const CausalMean<float> attention(channels, {1});
const Linear<float> feed_forward(channels, {2});

/// N(h) by the oracle.
template <class Norm>
ExactMatrix N(const Norm& norm, const ExactMatrix& h) {
  return forward_oracle_of(norm, h).y;
}

/// Copies of a norm, a sublayer or a block become different ones: all values move away from where
/// they were, γ from 1 less its offset, β from 0.
template <class Model>
void draw_parameters(Model& model) {
  Random random(Seed{11});
  model.visit_parameters([&](const std::string&, auto& value, auto&) {
    value += random_normal<Vector>({value.size(), 1}, random, 0, 0.3);
  });
}

/// What a norm is called in a file and in the stack; {} is the number of the layer. What is
/// nowhere in the stack is a norm of another part of the model, and stays where it is.
struct Key {
  std::string in_file, in_stack;
};

/// A file with these norms goes into the stack, and each norm gets what stands under its own keys.
template <class Model>
void load_and_check(Model& model, const Family& family, const std::vector<Key>& keys) {
  TensorFile file;
  std::map<std::string, Vector> expected;
  Random random(Seed{12});
  const auto add = [&](const std::string& in_file, const std::string& in_stack, double mean) {
    const Vector value = random_normal<Vector>({channels, 1}, random, mean, 0.3);
    file.add(in_file, value);
    if (in_stack.front() != '.') expected[in_stack] = value;
  };
  for (const Key& key : keys) {
    const bool is_in_layer = key.in_file.find("{}") != std::string::npos;
    for (std::size_t i = 0; i < (is_in_layer ? layers : 1); ++i) {
      const auto numbered = [&](std::string name) {
        const std::size_t at = name.find("{}");
        return at == std::string::npos ? name : name.replace(at, 2, std::to_string(i));
      };
      const std::string in_file = numbered(key.in_file), in_stack = numbered(key.in_stack);
      add(in_file + ".weight", in_stack + ".scale", 1 - family.scale_offset);
      if (family.norm == NormKind::layer_norm) add(in_file + ".bias", in_stack + ".shift", 0);
    }
  }
  load_norms(model, file, family);
  model.visit_parameters([&](const std::string& name, auto& value, auto&) {
    if (name.find("_norm.") == std::string::npos) return;  // of a sublayer
    ASSERT_TRUE(expected.contains(name)) << name << " is in the stack and not in the file";
    EXPECT_TRUE(same_bits(value, expected[name])) << name;
    expected.erase(name);
  });
  EXPECT_TRUE(expected.empty()) << expected.begin()->first << " is in the file alone";
}

/// Small, so that ε counts in the first norm.
Tokens input(Index count = token_count) {
  return random_normal<Tokens>({count, channels}, Seed{13}, 0, 0.01);
}

void expect_near(const Tokens& y, const ExactMatrix& expected) {
  ASSERT_EQ(y.rows(), expected.rows());
  const long double error = (exact(y) - expected).cwiseAbs().maxCoeff();
  EXPECT_LE(error, 1e-5L * expected.cwiseAbs().maxCoeff());
}

/// Training of a model whose forward is this equation: its result, and dx of Σ dy∘y in a random
/// direction against a central difference in long double.
template <class Model, class Equation>
void expect_trains(Model& model, const Equation& equation, const Tokens& x) {
  const Tokens y = model.forward(x);
  expect_near(y, equation(exact(x)));
  const auto dy = random_normal<Tokens>({y.rows(), channels}, Seed{14});
  const ExactMatrix dx = exact(model.backward(dy));
  const auto direction = random_normal<ExactMatrix>({x.rows(), channels}, Seed{15});
  const auto loss = [&](const ExactMatrix& at) { return exact(dy).cwiseProduct(equation(at)).sum(); };
  const ExactMatrix step = 0x1p-24L * direction;
  const long double expected = (loss(exact(x) + step) - loss(exact(x) - step)) * 0x1p+23L;
  EXPECT_NEAR(static_cast<double>(dx.cwiseProduct(direction).sum()), static_cast<double>(expected),
              1e-5 * static_cast<double>(dx.norm() * direction.norm()));
}

/// Inference and training of a model.
template <class Model, class Equation>
void expect_is(Model& model, const Equation& equation, const Tokens& x = input()) {
  expect_near(model(x), equation(exact(x)));
  expect_trains(model, equation, x);
  EXPECT_TRUE(same_bits(model.forward(x), model(x)));
}

// BERT: Post-LN with an embedding norm and no final norm.
// transformers, modeling_bert.py: BertEmbeddings, BertSelfOutput, BertOutput.
TEST(Models, BERT) {
  const auto norm = make_norm<float>(families::bert, channels);
  const PostLN block(attention, norm, feed_forward, norm);
  Stack model(norm, std::vector(layers, block), NoNorm{});
  draw_parameters(model);
  load_and_check(
      model, families::bert,
      {{"bert.embeddings.LayerNorm", "embedding_norm"},
       {"bert.encoder.layer.{}.attention.output.LayerNorm", "blocks.{}.attention_norm"},
       {"bert.encoder.layer.{}.output.LayerNorm", "blocks.{}.feed_forward_norm"},
       {"cls.predictions.transform.LayerNorm", ""}});
  expect_is(model, [&](ExactMatrix h) {
    h = N(model.embedding_norm(), h);
    for (const auto& b : model.blocks()) {
      h = N(b.attention_norm(), h + b.attention()(h));
      h = N(b.feed_forward_norm(), h + b.feed_forward()(h));
    }
    return h;
  });
}

/// The equations of Pre-LN, which several models share.
template <class Model>
ExactMatrix pre_ln(const Model& model, ExactMatrix h) {
  for (const auto& b : model.blocks()) {
    h += b.attention()(N(b.attention_norm(), h));
    h += b.feed_forward()(N(b.feed_forward_norm(), h));
  }
  return N(model.final_norm(), h);
}

// BLOOM: Pre-LN with an embedding norm.
// transformers, modeling_bloom.py: BloomModel, BloomBlock.
TEST(Models, BLOOM) {
  const LayerNorm<float> norm(channels, {.epsilon = 1e-5});
  const PreLN block(norm, attention, norm, feed_forward);
  Stack model(norm, std::vector(layers, block), norm);
  draw_parameters(model);
  load_and_check(model, families::bloom,
                 {{"word_embeddings_layernorm", "embedding_norm"},
                  {"h.{}.input_layernorm", "blocks.{}.attention_norm"},
                  {"h.{}.post_attention_layernorm", "blocks.{}.feed_forward_norm"},
                  {"ln_f", "final_norm"}});
  expect_is(model,
            [&](const ExactMatrix& x) { return pre_ln(model, N(model.embedding_norm(), x)); });
}

// GPT-2: Pre-LN with a final norm.
// Radford et al. 2019, section 2.3; openai/gpt-2, src/model.py: block.
TEST(Models, GPT2) {
  const LayerNorm<float> norm(channels, {.epsilon = 1e-5});
  const PreLN block(norm, attention, norm, feed_forward);
  Stack model(NoNorm{}, std::vector(layers, block), norm);
  draw_parameters(model);
  load_and_check(model, families::gpt2,
                 {{"transformer.h.{}.ln_1", "blocks.{}.attention_norm"},
                  {"transformer.h.{}.ln_2", "blocks.{}.feed_forward_norm"},
                  {"transformer.ln_f", "final_norm"},
                  {"transformer.h.{}.attn.c_proj", ""}});
  expect_is(model, [&](const ExactMatrix& x) { return pre_ln(model, x); });
}

// Llama 3: Pre-LN with RMSNorm.
// transformers, modeling_llama.py: LlamaDecoderLayer; ε from the model's config.json.
TEST(Models, Llama) {
  const auto norm = make_norm<float>(families::llama, channels, {.epsilon = 1e-5});
  const PreLN block(norm, attention, norm, feed_forward);
  Stack model(NoNorm{}, std::vector(layers, block), norm);
  draw_parameters(model);
  load_and_check(model, families::llama,
                 {{"model.layers.{}.input_layernorm", "blocks.{}.attention_norm"},
                  {"model.layers.{}.post_attention_layernorm", "blocks.{}.feed_forward_norm"},
                  {"model.norm", "final_norm"}});
  expect_is(model, [&](const ExactMatrix& x) { return pre_ln(model, x); });
}

// Granite: Llama's norms and keys, each update times the residual multiplier.
// transformers, modeling_granite.py: GraniteDecoderLayer; configuration of Granite 3.
TEST(Models, Granite) {
  const RMSNorm<float> norm(channels, {.epsilon = 1e-5});
  const PreLN block(norm, Scaled(attention, 0.22), norm, Scaled(feed_forward, 0.22));
  Stack model(NoNorm{}, std::vector(layers, block), norm);
  draw_parameters(model);
  load_and_check(model, families::llama,
                 {{"model.layers.{}.input_layernorm", "blocks.{}.attention_norm"},
                  {"model.layers.{}.post_attention_layernorm", "blocks.{}.feed_forward_norm"},
                  {"model.norm", "final_norm"}});
  expect_is(model, [&](ExactMatrix h) {
    for (const auto& b : model.blocks()) {
      h += 0.22L * b.attention().sublayer()(N(b.attention_norm(), h));
      h += 0.22L * b.feed_forward().sublayer()(N(b.feed_forward_norm(), h));
    }
    return N(model.final_norm(), h);
  });
}

/// The equations of Sandwich-LN.
template <class Model>
ExactMatrix sandwich_ln(const Model& model, ExactMatrix h) {
  for (const auto& b : model.blocks()) {
    h += N(b.attention_output_norm(), b.attention()(N(b.attention_norm(), h)));
    h += N(b.feed_forward_output_norm(), b.feed_forward()(N(b.feed_forward_norm(), h)));
  }
  return N(model.final_norm(), h);
}

// Gemma 2: Sandwich-LN with RMSNorm, whose factor is 1 + γ.
// transformers, modeling_gemma2.py: Gemma2RMSNorm, Gemma2DecoderLayer.
TEST(Models, Gemma2) {
  const auto norm = make_norm<float>(families::gemma2, channels);
  const SandwichLN block(norm, attention, norm, norm, feed_forward, norm);
  Stack model(NoNorm{}, std::vector(layers, block), norm);
  draw_parameters(model);
  load_and_check(
      model, families::gemma2,
      {{"model.layers.{}.input_layernorm", "blocks.{}.attention_norm"},
       {"model.layers.{}.post_attention_layernorm", "blocks.{}.attention_output_norm"},
       {"model.layers.{}.pre_feedforward_layernorm", "blocks.{}.feed_forward_norm"},
       {"model.layers.{}.post_feedforward_layernorm", "blocks.{}.feed_forward_output_norm"},
       {"model.norm", "final_norm"}});
  expect_is(model, [&](const ExactMatrix& x) { return sandwich_ln(model, x); });
}

// Peri-LN: Sandwich-LN with an embedding norm and a final norm; here with norms of either kind.
// Kim et al. 2025, arXiv:2502.02732, section 3.
TEST(Models, PeriLN) {
  for (const NormKind kind : {NormKind::layer_norm, NormKind::rms_norm}) {
    SCOPED_TRACE(kind == NormKind::layer_norm ? "LayerNorm" : "RMSNorm");
    const AnyNorm<float> norm(kind, channels);
    const SandwichLN block(norm, attention, norm, norm, feed_forward, norm);
    Stack model(norm, std::vector(layers, block), norm);
    draw_parameters(model);
    expect_is(model, [&](const ExactMatrix& x) {
      return sandwich_ln(model, N(model.embedding_norm(), x));
    });
  }
}

/// The equations of residual-post-norm, each update times s, of which there is one for each token.
template <class Model>
ExactMatrix res_post_ln(const Model& model, ExactMatrix h, const ExactVector& s) {
  for (const auto& b : model.blocks()) {
    h += s.asDiagonal() * N(b.attention_output_norm(), b.attention()(h));
    h += s.asDiagonal() * N(b.feed_forward_output_norm(), b.feed_forward()(h));
  }
  return N(model.final_norm(), h);
}

// OLMo 2: RMSNorm on each sublayer's result, none on the stream but the final one.
// transformers, modeling_olmo2.py: Olmo2DecoderLayer.
TEST(Models, OLMo2) {
  const RMSNorm<float> norm(channels, {.epsilon = 1e-6});
  const ResPostLN block(attention, norm, feed_forward, norm);
  Stack model(NoNorm{}, std::vector(layers, block), norm);
  draw_parameters(model);
  load_and_check(
      model, families::olmo2,
      {{"model.layers.{}.post_attention_layernorm", "blocks.{}.attention_output_norm"},
       {"model.layers.{}.post_feedforward_layernorm", "blocks.{}.feed_forward_output_norm"},
       {"model.norm", "final_norm"},
       {"model.layers.{}.self_attn.q_norm", ""},
       {"model.layers.{}.self_attn.k_norm", ""}});
  const ExactVector one = ExactVector::Ones(token_count);
  expect_is(model, [&](const ExactMatrix& x) { return res_post_ln(model, x, one); });
}

/// Stochastic depth as it is drawn for the first forward.
template <class F>
ExactVector first_drawn(DropPath<F> drop_path) {
  Vector factors;
  drop_path.draw(token_count, factors);
  return exact_vector(factors);
}
