// SPDX-License-Identifier: MIT
// A stack, a file and a family have one rule for the residual stream, or nothing is loaded.
#include "tensor_file.hpp"
#include <tokennorm/checkpoint/names.hpp>

#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace tokennorm::test {
namespace {

using Error = std::runtime_error;
using Names = std::vector<std::string>;
constexpr Index channels = 3;
constexpr std::size_t layers = 2;

struct Same {
  TokenMatrix<float> operator()(const TokenMatrix<float>& x) const { return x; }
};

const LayerNorm<float> layer_norm(channels, {.epsilon = 1e-5});
const RMSNorm<float> rms_norm(channels, {.epsilon = 1e-6});

/// Their scales are 1000, 1010, …, in this order; the shifts follow with 5 more.
TensorFile file_of(const Names& norms, bool with_shifts, const Names& others = {}) {
  TensorFile file;
  double first = 1000;
  for (const std::string& norm : norms) {
    file.add(norm + ".weight", {channels}, first);
    if (with_shifts) file.add(norm + ".bias", {channels}, first + 5);
    first += 10;
  }
  for (const std::string& other : others) file.add(other, {channels, channels}, 1);
  return file;
}

/// The first values of the norms' scales, in data order.
template <class AnyStack>
std::vector<float> firsts(AnyStack& stack) {
  std::vector<float> result;
  stack.visit_parameters([&](const std::string& name, auto& value, auto&) {
    if (name.ends_with("_norm.scale")) result.push_back(value(0));
  });
  return result;
}

template <class AnyStack>
std::string error_of(AnyStack stack, const TensorFile& file, const Family& family) {
  const auto before = firsts(stack);
  const std::string message = message_of<Error>([&] { load_norms(stack, file, family); });
  EXPECT_EQ(firsts(stack), before);
  return message;
}

template <class AnyStack>
void expect_refused(const AnyStack& stack, const TensorFile& file, const Family& family,
                    const std::string& words) {
  const std::string message = error_of(stack, file, family);
  EXPECT_NE(message.find(words), std::string::npos) << message << "\n  lacks: " << words;
}

template <class Norm, class F>
auto pre_ln(const Norm& norm, const F& f) {
  return Stack(NoNorm{}, std::vector(layers, PreLN(norm, f, norm, f)), norm);
}

/// The same keys in each layer, then the final norm.
Names in_layers(const std::string& before, const Names& keys, const std::string& final) {
  Names names;
  for (std::size_t layer = 0; layer < layers; ++layer) {
    for (const std::string& key : keys) names.push_back(before + std::to_string(layer) + "." + key);
  }
  names.push_back(final);
  return names;
}

Names llama_names() {
  return in_layers("model.layers.", {"input_layernorm", "post_attention_layernorm"}, "model.norm");
}

TEST(LoadRules, ParallelWithOneNormOrTwo) {
  const auto block = [](auto... parts) {
    return Stack(NoNorm{}, std::vector(layers, ParallelLN(parts...)), layer_norm);
  };
  auto one = block(layer_norm, Same{}, Same{});
  auto two = block(layer_norm, Same{}, layer_norm, Same{});
  const TensorFile gptj = file_of(in_layers("transformer.h.", {"ln_1"}, "transformer.ln_f"), true);
  load_norms(one, gptj, families::gptj);
  EXPECT_EQ(firsts(one), (std::vector<float>{1000, 1010, 1020}));
  const TensorFile neox =
      file_of(in_layers("gpt_neox.layers.", {"input_layernorm", "post_attention_layernorm"},
                        "gpt_neox.final_layer_norm"),
              true);
  load_norms(two, neox, families::gpt_neox);
  EXPECT_EQ(firsts(two), (std::vector<float>{1000, 1010, 1020, 1030, 1040}));
  TensorFile saved;
  save_norms(two, saved, families::gpt_neox);
  EXPECT_EQ(saved.names(), neox.names());

  expect_refused(
      two, gptj, families::gptj,
      "the blocks are parallel with two norms; expected parallel with one norm for gptj");
  expect_refused(one, neox, families::gpt_neox, "the blocks are parallel with one norm; expected");
  expect_refused(pre_ln(layer_norm, Same{}), neox, families::gpt_neox,
                 "the blocks are Pre-LN; expected parallel with two norms for gpt_neox");
  const TensorFile gpt2 = file_of(in_layers("h.", {"ln_1", "ln_2"}, "ln_f"), true);
  expect_refused(two, gpt2, families::gpt2,
                 "the blocks are parallel with two norms; expected Pre-LN for gpt2");
  expect_refused(block(layer_norm, Same{}, NoNorm{}, Same{}), gptj, families::gptj,
                 "the blocks are of a placement of their own; expected parallel with one norm");
  auto stack = pre_ln(layer_norm, Same{});
  load_norms(stack, neox, families::gpt_neox_sequential);
  EXPECT_EQ(firsts(stack), (std::vector<float>{1000, 1010, 1020, 1030, 1040}));
}

TEST(LoadRules, ScaledUpdates) {
  const TensorFile file = file_of(llama_names(), false);
  auto granite = pre_ln(rms_norm, Scaled(Same{}, 0.22));
  load_norms(granite, file, families::granite);
  EXPECT_EQ(firsts(granite).back(), 1040);
  expect_refused(granite, file, families::llama,
                 "Stack(3): attention of layer 0 is scaled by 0.22; expected 1");
  expect_refused(pre_ln(rms_norm, Same{}), file, families::granite,
                 "attention of layer 0 is not scaled; expected Scaled(f, s) with the "
                 "residual_multiplier of the model's config.json for granite");
  Family from_config = families::granite;
  from_config.residual_scale = 0.22;
  from_config.residual_scale_key.clear();
  load_norms(granite, file, from_config);
  auto nested = pre_ln(rms_norm, DropPath(Scaled(Scaled(Same{}, 2), 0.11), 0.5, 2, 1));
  load_norms(nested, file, from_config);
  const PreLN half(rms_norm, Scaled(Same{}, 0.22), rms_norm, Scaled(Same{}, 0.2));
  expect_refused(Stack(NoNorm{}, std::vector(layers, half), rms_norm), file, from_config,
                 "feed_forward of layer 0 is scaled by 0.2; expected 0.22 (if the model");
}

TEST(LoadRules, LayerScale) {
  const auto norms = in_layers("encoder.layer.", {"norm1", "norm2"}, "layernorm");
  const TensorFile file = file_of(norms, true, {"encoder.layer.0.layer_scale1.lambda1"});
  const LayerNorm<float> norm(channels, {.epsilon = 1e-6});
  auto dinov2 = pre_ln(norm, LayerScale(Same{}, channels));
  load_norms(dinov2, file, families::dinov2);
  EXPECT_EQ(firsts(dinov2).front(), 1000);
  expect_refused(pre_ln(norm, Same{}), file, families::dinov2,
                 "attention of layer 0 has no LayerScale; expected one, LayerScale(f, channels), "
                 "for dinov2");
  Family plain = families::dinov2;
  plain.layer_scale = false;
  expect_refused(dinov2, file, plain, "attention of layer 0 has a LayerScale; expected none");
  expect_refused(pre_ln(norm, Same{}), file, plain,
                 "encoder.layer.0.layer_scale1.lambda1: such a model multiplies updates by learned "
                 "vectors (LayerScale); expected the file of a model of dinov2");
}

TEST(LoadRules, DeepNormsAlpha) {
  const LayerNorm<float> norm(channels, {.epsilon = 1e-12});
  const TensorFile file =
      file_of(in_layers("encoder.layer.", {"attention.output.LayerNorm", "output.LayerNorm"},
                        "embeddings.LayerNorm"),
              true);
  const auto stack_with = [&](double alpha) {
    return Stack(norm, std::vector(layers, DeepNorm(Same{}, norm, Same{}, norm, alpha)), NoNorm{});
  };
  Family deep = families::bert;
  deep.alpha = 1.5;
  auto stack = stack_with(1.5);
  load_norms(stack, file, deep);
  EXPECT_EQ(firsts(stack), (std::vector<float>{1040, 1000, 1010, 1020, 1030}));
  expect_refused(
      stack_with(1.25), file, deep,
      "the blocks are Post-LN with alpha 1.25; expected Post-LN with alpha 1.5 for bert");
  expect_refused(stack_with(1), file, deep, "are Post-LN; expected Post-LN with alpha 1.5");
}

TEST(LoadRules, RulesThatNoBlockHasAreRefused) {
  const TensorFile llama = file_of(llama_names(), false);
  const auto stack = pre_ln(rms_norm, Same{});
  EXPECT_EQ(error_of(stack, llama, families::minimax),
            "tokennorm: Stack(3): a model of minimax adds updates to the normed stream, both times "
            "factors, which no block here does");
  for (const auto& [tensor, reason] :
       {std::pair("model.layers.1.attn_hc.fn", "mixes several residual streams"),
        std::pair("model.layers.0.ffn_hc.scale", "mixes several residual streams"),
        std::pair("model.layers.1.altup.prediction_coefs.weight", "mixes several residual streams"),
        std::pair("model.layers.0.input_residual", "multiplies the stream by learned vectors"),
        std::pair("model.layers.0.mlp_res_norm.weight", "makes the stream from what earlier"),
        std::pair("model.layers.0.layer_scalar", "multiplies the stream by a learned number")}) {
    const TensorFile file = file_of(llama_names(), false, {tensor});
    expect_refused(stack, file, families::llama,
                   std::string("Stack(3): ") + tensor + ": such a model " + reason);
    EXPECT_NE(
        error_of(stack, file, families::llama).find("; expected the file of a model of llama"),
        std::string::npos);
  }
}

// InternVL: the part that sees images has LayerScale, the one that reads text is a Llama.
TEST(LoadRules, OtherPartsOfAModelMayHaveOtherRules) {
  const TensorFile file =
      file_of(llama_names(), false, {"vision_model.encoder.layers.0.ls1", "vision.layer_scalar"});
  auto stack = pre_ln(rms_norm, Same{});
  load_norms(stack, file, families::llama);
  EXPECT_EQ(firsts(stack).front(), 1000);
}

TEST(LoadRules, PostLNHasNoFinalNorm) {
  const Stack stack(NoNorm{}, std::vector(layers, PostLN(Same{}, layer_norm, Same{}, layer_norm)),
                    NoNorm{});
  const Names keys = {"self_attn_layer_norm", "final_layer_norm"};
  Names names = in_layers("model.decoder.layers.", keys, "model.decoder.final_layer_norm");
  expect_refused(stack, file_of(names, true), families::opt_350m,
                 "the file has model.decoder.final_layer_norm, which opt_350m has not");
  names.back() = "model.decoder.norm";
  expect_refused(stack, file_of(names, true), families::opt_350m,
                 "the file has model.decoder.norm, which opt_350m has not");
  names.pop_back();
  auto loaded = stack;
  load_norms(loaded, file_of(names, true), families::opt_350m);
  EXPECT_EQ(firsts(loaded), (std::vector<float>{1000, 1010, 1020, 1030}));
}

TEST(LoadRules, NormsThatAStackLacksInsideAreRefused) {
  const PreLN half(rms_norm, Same{}, NoNorm{}, Same{});
  const Stack stack(NoNorm{}, std::vector(layers, half), rms_norm);
  const TensorFile file = file_of(llama_names(), false);
  expect_refused(stack, file, families::llama,
                 "the file has model.layers.0.post_attention_layernorm, and the stack no "
                 "feed_forward norm of layer 0; expected one, or a copy of the family");
}

/// A file that says in which of several each tensor is.
struct Sharded : TensorFile {
  explicit Sharded(const TensorFile& file) : TensorFile(file) {}
  std::string file_name(const std::string& name) const {
    return name.find("layers.1") == std::string::npos ? "first.safetensors" : "second.safetensors";
  }
};

TEST(LoadRules, FaultsNameTheFile) {
  const auto error = [](const Names& norms, auto norm, const Names& others = {}) {
    const Sharded file(file_of(norms, false, others));
    Stack stack(NoNorm{}, std::vector(layers, PreLN(rms_norm, Same{}, rms_norm, Same{})), norm);
    return message_of<Error>([&] { load_norms(stack, file, families::llama); });
  };
  EXPECT_EQ(error(llama_names(), NoNorm{}),
            "tokennorm: Stack(3): first.safetensors: the file has model.norm, and the stack no "
            "final norm; expected one, or a copy of the family without its key");
  EXPECT_EQ(error(llama_names(), rms_norm, {"model.layers.1.attn_hc.fn"}).substr(0, 67),
            "tokennorm: Stack(3): second.safetensors: model.layers.1.attn_hc.fn:");
  Names more = llama_names();
  more.push_back("model.layers.1.ln_more");
  EXPECT_EQ(error(more, rms_norm).substr(0, 65),
            "tokennorm: Stack(3): second.safetensors: the file has model.layer");
  const Sharded file(TensorFile().add("model.layers.1.norm.weight", {2}, 1));
  RMSNorm<float> norm(channels);
  EXPECT_EQ(message_of<Error>([&] { load_norm(norm, file, "model.layers.1.norm"); }).substr(0, 97),
            "tokennorm: RMSNorm(3): second.safetensors: model.layers.1.norm: the scale is [2]; "
            "expected [3]; f");
}

TEST(LoadRules, AFirstLayerThatLacksItsNorm) {
  const LayerNorm<float> norm(channels, {.epsilon = 1e-5, .shift = false});
  PreLN first(NoNorm{}, Same{}, norm, Same{});
  PreLN other(norm, Same{}, norm, Same{});
  Stack modernbert(norm, std::tuple(first, other, other), norm);
  const Names names = {"model.embeddings.norm",    "model.layers.0.mlp_norm",
                       "model.layers.1.attn_norm", "model.layers.1.mlp_norm",
                       "model.layers.2.attn_norm", "model.layers.2.mlp_norm",
                       "model.final_norm"};
  load_norms(modernbert, file_of(names, false), families::modernbert);
  EXPECT_EQ(firsts(modernbert), (std::vector<float>{1000, 1010, 1020, 1030, 1040, 1050, 1060}));
  Names with_first = names;
  with_first.push_back("model.layers.0.attn_norm");
  expect_refused(modernbert, file_of(with_first, false), families::modernbert,
                 "the file has model.layers.0.attn_norm, which modernbert has not");
  using Either = std::variant<decltype(first), decltype(other)>;
  Stack whole(norm, std::vector<Either>{other, other, other}, norm);
  EXPECT_THROW(load_norms(whole, file_of(names, false), families::modernbert),
               std::invalid_argument);
}

TEST(LoadRules, LayersThatShareTheirNorms) {
  const LayerNorm<float> norm(channels, {.epsilon = 1e-12});
  const std::string layer = "albert.encoder.albert_layer_groups.0.albert_layers.0.";
  const Names names = {"albert.embeddings.LayerNorm", layer + "attention.LayerNorm",
                       layer + "full_layer_layer_norm", "predictions.LayerNorm"};
  Stack albert(norm, std::vector(3, PostLN(Same{}, norm, Same{}, norm)), NoNorm{});
  load_norms(albert, file_of(names, true), families::albert);
  EXPECT_EQ(firsts(albert), (std::vector<float>{1000, 1010, 1020, 1010, 1020, 1010, 1020}));
  Names groups = names;
  groups.push_back("albert.encoder.albert_layer_groups.1.albert_layers.0.attention.LayerNorm");
  expect_refused(albert, file_of(groups, true), families::albert,
                 "albert_layer_groups.1.albert_layers.0.attention.LayerNorm, which albert has not");
}

TEST(LoadRules, LayersThatShareTheirNormsAreSavedOnceIfTheyAreEqual) {
  const LayerNorm<float> norm(channels, {.epsilon = 1e-12});
  Stack albert(norm, std::vector(3, PostLN(Same{}, norm, Same{}, norm)), NoNorm{});
  TensorFile file;
  save_norms(albert, file, families::albert);
  EXPECT_EQ(file.names().size(), 6U);
  load_norms(albert, file, families::albert);
  albert.blocks()[2].feed_forward_norm().shift()(1) = 7;
  TensorFile none;
  EXPECT_EQ(
      message_of<Error>([&] { save_norms(albert, none, families::albert); }),
      "tokennorm: Stack(3): feed_forward_norm of layer 2 is not that of layer 0; expected one "
      "for all layers for albert");
  EXPECT_TRUE(none.names().empty());
}

TEST(LoadRules, ThreeSublayersWithTwoNormsEach) {
  const RMSNorm<float> norm(channels, {.epsilon = 1e-6, .scale_offset = 1});
  const Block block(named("attention", SandwichLNResidual(norm, Same{}, norm)),
                    named("cross_attention", SandwichLNResidual(norm, Same{}, norm)),
                    named("feed_forward", SandwichLNResidual(norm, Same{}, norm)));
  Stack decoder(NoNorm{}, std::vector(layers, block), norm);
  const Names keys = {"pre_self_attn_layernorm",   "post_self_attn_layernorm",
                      "pre_cross_attn_layernorm",  "post_cross_attn_layernorm",
                      "pre_feedforward_layernorm", "post_feedforward_layernorm"};
  const Names names = in_layers("model.decoder.layers.", keys, "model.decoder.norm");
  load_norms(decoder, file_of(names, false), families::t5gemma_decoder);
  std::vector<float> expected;
  for (std::size_t i = 0; i < names.size(); ++i) expected.push_back(1000 + 10 * float(i));
  EXPECT_EQ(firsts(decoder), expected);
}

TEST(LoadRules, OneSublayerALayer) {
  const RMSNorm<float> norm(channels, {.epsilon = 1e-5});
  const Block block(named("mixer", PreLNResidual(norm, Same{})));
  Stack mamba(NoNorm{}, std::vector(layers, block), norm);
  TensorFile file = file_of(in_layers("backbone.layers.", {"norm"}, "backbone.norm_f"), false);
  file.add("backbone.layers.0.mixer.norm.weight", {2 * channels}, 1);
  load_norms(mamba, file, families::mamba);
  EXPECT_EQ(firsts(mamba), (std::vector<float>{1000, 1010, 1020}));
}

TEST(LoadRules, NormsInsideSublayersAreListedAndDoNotDisturb) {
  TensorFile file = file_of(llama_names(), false);
  file.add("model.layers.1.self_attn.q_norm.weight", {2}, 7);
  file.add("model.layers.1.self_attn.k_norm.weight", {1, 2}, 8);
  file.add("model.layers.0.self_attn.kv_a_layernorm.weight", {4}, 9);
  file.add("model.layers.0.mlp.ffn_sub_norm.weight", {8}, 10);
  auto stack = pre_ln(rms_norm, Same{});
  load_norms(stack, file, families::llama);
  EXPECT_EQ(firsts(stack), (std::vector<float>{1000, 1010, 1020, 1030, 1040}));
  Names inside;
  for (const NormInFile& norm : find_norms(file, families::llama)) {
    if (!is_inside_sublayer(norm.role)) continue;
    inside.push_back(std::string(detail::name_of(norm.role)) + " " + std::to_string(norm.layer) +
                     " " + std::to_string(norm.channels));
  }
  EXPECT_EQ(inside,
            (Names{"key_value_latent 0 4", "feed_forward_sub 0 8", "query 1 2", "key 1 2"}));
  RMSNorm<float> query(2);
  load_norm(query, file, families::llama.key(NormRole::query, 1));
  EXPECT_EQ(query.scale()(1), 8);
}

// DeepSeek V3's layer 61: the model runs without it.
TEST(LoadRules, LayersThatPredictFurtherTokensAreLeftOut) {
  Names names = llama_names();
  for (const std::string key : {"input_layernorm", "post_attention_layernorm", "enorm", "hnorm"}) {
    names.push_back("model.layers.2." + key);
  }
  auto stack = pre_ln(rms_norm, Same{});
  load_norms(stack, file_of(names, false), families::llama);
  EXPECT_EQ(firsts(stack), (std::vector<float>{1000, 1010, 1020, 1030, 1040}));
  names.resize(names.size() - 2);
  expect_refused(stack, file_of(names, false), families::llama, "the file has norms of 3 layers");
}

TEST(LoadRules, NumbersThatACopyOfAFamilyStates) {
  const TensorFile file = file_of(llama_names(), false);
  Family mine = families::llama;  // any epsilon
  const RMSNorm<float> other(channels, {.epsilon = 0.1});
  auto stack = pre_ln(other, Same{});
  load_norms(stack, file, mine);
  mine.epsilon = 1e-5;
  expect_refused(stack, file, mine, "has epsilon 0.1; expected 1e-05 (if the model");
  Family scaled = families::granite;  // any scale
  scaled.residual_scale = 0.22;
  expect_refused(pre_ln(rms_norm, Scaled(Same{}, 0.5)), file, scaled,
                 "attention of layer 0 is scaled by 0.5; expected 0.22");
}

TEST(LoadRules, SavedIsWhatTheFamilyHas) {
  const auto error = [](const auto& stack, const Family& family) {
    TensorFile saved;
    const std::string message = message_of<Error>([&] { save_norms(stack, saved, family); });
    EXPECT_TRUE(saved.names().empty());
    return message;
  };
  const LayerNorm<float> with_shift(channels, {.epsilon = 1e-5});
  EXPECT_EQ(error(pre_ln(with_shift, Same{}), families::mpt),
            "tokennorm: Stack(3): attention_norm of layer 0 has a shift; expected none for mpt");
  const RMSNorm<float> bare(channels, {.epsilon = 1e-6, .scale = false});
  EXPECT_EQ(error(pre_ln(bare, Same{}), families::llama),
            "tokennorm: Stack(3): attention_norm of layer 0 has no scale; expected one for llama");
}

TEST(LoadRules, NormsBesideThoseOfTheFamilyAreRefusedUnderAnyPrefix) {
  const LayerNorm<float> bert_norm(channels, {.epsilon = 1e-12});
  const PostLN post(Same{}, bert_norm, Same{}, bert_norm);
  for (const std::string tower : {"", "tower."}) {
    const auto under = [&](Names names) {
      for (std::string& name : names) name.insert(0, tower);
      return names;
    };
    const auto check = [&](const auto& stack, const Names& names, bool with_shifts,
                           const FamilyRow& family, const std::string& beside) {
      const TensorFile file = file_of(under(names), with_shifts);
      const Family there = family.under(tower);
      auto loaded = stack;
      load_norms(loaded, file, there);
      Names more = names;
      more.push_back(beside);
      expect_refused(stack, file_of(under(more), with_shifts), there, beside);
    };
    const auto llama = pre_ln(rms_norm, Same{});
    const Names gpt2 = in_layers("h.", {"ln_1", "ln_2"}, "ln_f");
    check(llama, llama_names(), false, families::llama, "embeddings.norm");
    check(llama, llama_names(), false, families::llama, "embed_norm");
    check(pre_ln(layer_norm, Same{}), gpt2, true, families::gpt2, "emb_ln");
    Names bert = in_layers("encoder.layer.", {"attention.output.LayerNorm", "output.LayerNorm"},
                           "embeddings.LayerNorm");
    check(Stack(bert_norm, std::vector(layers, post), NoNorm{}), bert, true, families::bert,
          "encoder.layer.0.crossattention.output.LayerNorm");
  }
}

TEST(LoadRules, OneOfSeveralTowersByItsPrefix) {
  Names names;
  for (const std::string tower : {"thinker.", "talker."}) {
    for (const std::string& name : llama_names()) names.push_back(tower + name);
  }
  auto stack = pre_ln(rms_norm, Same{});
  load_norms(stack, file_of(names, false), families::llama.under("talker."));
  EXPECT_EQ(firsts(stack), (std::vector<float>{1050, 1060, 1070, 1080, 1090}));
}

}  // namespace
}  // namespace tokennorm::test
