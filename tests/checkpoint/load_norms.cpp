// SPDX-License-Identifier: MIT
// All norms of a stack at once: each goes to its place, or none changes.
#include "tensor_file.hpp"
#include <tokennorm/checkpoint/names.hpp>

#include <gtest/gtest.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

using Error = std::runtime_error;
constexpr Index channels = 3, layers = 2;

struct Same {
  TokenMatrix<float> operator()(const TokenMatrix<float>& x) const { return x; }
};

LayerNorm<float> layer(double epsilon = 1e-5) {
  return LayerNorm<float>(channels, {.epsilon = epsilon});
}
RMSNorm<float> rms(double offset = 0, double epsilon = 1e-6) {
  return RMSNorm<float>(channels, {.epsilon = epsilon, .scale_offset = offset});
}

template <class Norm>
auto pre_ln(const Norm& norm) {
  return Stack(NoNorm{}, std::vector(layers, PreLN(norm, Same{}, norm, Same{})), norm);
}
template <class Norm>
auto post_ln(const Norm& norm) {
  return Stack(norm, std::vector(layers, PostLN(Same{}, norm, Same{}, norm)), NoNorm{});
}
template <class Norm>
auto sandwich_ln(const Norm& norm) {
  return Stack(NoNorm{}, std::vector(layers, SandwichLN(norm, Same{}, norm, norm, Same{}, norm)),
               norm);
}

template <class Norm>
auto deep_norm(const Norm& norm, double alpha) {
  return Stack(norm, std::vector(layers, DeepNorm(Same{}, norm, Same{}, norm, alpha)), NoNorm{});
}

/// Every parameter of the stack by name, the values that are loaded 1000, 1010, …: in that order.
template <class AnyStack>
std::vector<std::pair<std::string, float>> firsts(AnyStack& stack) {
  std::vector<std::pair<std::string, float>> result;
  stack.visit_parameters([&](const std::string& name, auto& value, auto&) {
    EXPECT_EQ(value.size(), channels);
    result.emplace_back(name, value(0));
  });
  return result;
}

using Firsts = std::vector<std::pair<std::string, float>>;

TensorFile file_of(const std::vector<std::string>& names) {
  TensorFile file;
  double first = 1000;
  for (const std::string& name : names) {
    file.add(name, {channels}, first);
    first += 10;
  }
  return file;
}

const std::vector<std::string> gpt2_names = {
    "transformer.h.0.ln_1.weight", "transformer.h.0.ln_1.bias",   "transformer.h.0.ln_2.weight",
    "transformer.h.0.ln_2.bias",   "transformer.h.1.ln_1.weight", "transformer.h.1.ln_1.bias",
    "transformer.h.1.ln_2.weight", "transformer.h.1.ln_2.bias",   "transformer.ln_f.weight",
    "transformer.ln_f.bias",       "transformer.h.0.attn.bias",   "lm_head.weight"};

const Firsts gpt2_firsts = {{"blocks.0.attention_norm.scale", 1000},
                            {"blocks.0.attention_norm.shift", 1010},
                            {"blocks.0.feed_forward_norm.scale", 1020},
                            {"blocks.0.feed_forward_norm.shift", 1030},
                            {"blocks.1.attention_norm.scale", 1040},
                            {"blocks.1.attention_norm.shift", 1050},
                            {"blocks.1.feed_forward_norm.scale", 1060},
                            {"blocks.1.feed_forward_norm.shift", 1070},
                            {"final_norm.scale", 1080},
                            {"final_norm.shift", 1090}};

template <class Exception = Error, class AnyStack>
void expect_refused(AnyStack stack, const TensorFile& file, const Family& family,
                    const std::string& words) {
  const auto before = firsts(stack);
  const std::string message = message_of<Exception>([&] { load_norms(stack, file, family); });
  EXPECT_NE(message.find(words), std::string::npos) << message << "\n  lacks: " << words;
  EXPECT_EQ(firsts(stack), before);
}

TEST(LoadNorms, FillsAPreLNStack) {
  auto stack = pre_ln(layer());
  load_norms(stack, file_of(gpt2_names), families::gpt2);
  EXPECT_EQ(firsts(stack), gpt2_firsts);
}

TEST(LoadNorms, FillsFromTheNamesOfTheOriginalGPT2) {
  auto stack = pre_ln(layer());
  load_norms(stack,
             file_of({"model/h0/ln_1/g", "model/h0/ln_1/b", "model/h0/ln_2/g", "model/h0/ln_2/b",
                      "model/h1/ln_1/g", "model/h1/ln_1/b", "model/h1/ln_2/g", "model/h1/ln_2/b",
                      "model/ln_f/g", "model/ln_f/b"}),
             families::gpt2_original);
  EXPECT_EQ(firsts(stack), gpt2_firsts);
}

TEST(LoadNorms, FillsFromNamesBehindSeveralPrefixes) {
  std::vector<std::string> names;
  for (const std::string& name : gpt2_names) names.push_back("_orig_mod.module." + name);
  auto stack = pre_ln(layer());
  load_norms(stack, file_of(names), families::gpt2);
  EXPECT_EQ(firsts(stack), gpt2_firsts);
}

TEST(LoadNorms, TakesTheNamesAsTheyAreBeforeThoseBehindAPrefixAndAsksWhereThereAreTwo) {
  std::vector<std::string> names = gpt2_names;
  for (const std::string name : {"transformer.h.1.ln_2", "h.1.ln_2"}) {
    names.push_back("module." + name + ".weight");
    names.push_back("module." + name + ".bias");
  }
  TensorFile file = file_of(names);
  expect_refused(pre_ln(layer()), file, families::gpt2,
                 "nothing is called h.1.ln_2, but there are module.h.1.ln_2 and "
                 "module.transformer.h.1.ln_2; name one of them");
  file.add("h.1.ln_2.weight", {channels}, 7).add("h.1.ln_2.bias", {channels}, 8);
  auto stack = pre_ln(layer());
  load_norms(stack, file, families::gpt2);
  EXPECT_EQ(stack.blocks()[1].feed_forward_norm().scale()(0), 7);
}

/// nanoGPT with bias = False, and Cohere.
TEST(LoadNorms, FillsLayerNormsWithoutShiftFromAFileWithoutBiases) {
  std::vector<std::string> names;
  for (const std::string& name : gpt2_names) {
    if (!name.ends_with("bias")) names.push_back(name);
  }
  const LayerNorm<float> without_shift(channels, {.shift = false});
  auto stack = pre_ln(without_shift);
  load_norms(stack, file_of(names), families::gpt2);
  EXPECT_EQ(stack.final_norm().scale()(0), 1000 + 10 * 4);
  expect_refused(pre_ln(layer()), file_of(names), families::gpt2, "the shift is missing");
  names.push_back("transformer.h.1.ln_2.bias");
  expect_refused(pre_ln(without_shift), file_of(names), families::gpt2,
                 "transformer.h.1.ln_2: there is a shift, and the norm has none (shift = false); "
                 "found transformer.h.1.ln_2.bias [3], transformer.h.1.ln_2.weight [3]");
}

TEST(LoadNorms, FillsAPostLNStackFromOldNames) {
  auto stack = post_ln(layer(1e-12));
  const TensorFile file = file_of(
      {"bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.beta",
       "bert.encoder.layer.0.attention.output.LayerNorm.gamma",
       "bert.encoder.layer.0.attention.output.LayerNorm.beta",
       "bert.encoder.layer.0.output.LayerNorm.gamma", "bert.encoder.layer.0.output.LayerNorm.beta",
       "bert.encoder.layer.1.attention.output.LayerNorm.gamma",
       "bert.encoder.layer.1.attention.output.LayerNorm.beta",
       "bert.encoder.layer.1.output.LayerNorm.gamma", "bert.encoder.layer.1.output.LayerNorm.beta",
       "cls.predictions.transform.LayerNorm.gamma"});
  load_norms(stack, file, detect_family(file.names()));
  EXPECT_EQ(firsts(stack), (Firsts{{"embedding_norm.scale", 1000},
                                   {"embedding_norm.shift", 1010},
                                   {"blocks.0.attention_norm.scale", 1020},
                                   {"blocks.0.attention_norm.shift", 1030},
                                   {"blocks.0.feed_forward_norm.scale", 1040},
                                   {"blocks.0.feed_forward_norm.shift", 1050},
                                   {"blocks.1.attention_norm.scale", 1060},
                                   {"blocks.1.attention_norm.shift", 1070},
                                   {"blocks.1.feed_forward_norm.scale", 1080},
                                   {"blocks.1.feed_forward_norm.shift", 1090}}));
}

TEST(LoadNorms, FillsASandwichWhoseKeysMeanSomethingElseThanLlamas) {
  auto stack = sandwich_ln(rms(1));
  std::vector<std::string> names;
  for (const std::string n : {"0", "1"}) {
    for (const std::string key : {"input_layernorm", "post_attention_layernorm",
                                  "pre_feedforward_layernorm", "post_feedforward_layernorm"}) {
      names.push_back("model.layers." + n + "." + key + ".weight");
    }
  }
  names.push_back("model.norm.weight");
  const TensorFile file = file_of(names);
  load_norms(stack, file, detect_family(file.names()));
  EXPECT_EQ(firsts(stack), (Firsts{{"blocks.0.attention_norm.scale", 1000},
                                   {"blocks.0.attention_output_norm.scale", 1010},
                                   {"blocks.0.feed_forward_norm.scale", 1020},
                                   {"blocks.0.feed_forward_output_norm.scale", 1030},
                                   {"blocks.1.attention_norm.scale", 1040},
                                   {"blocks.1.attention_output_norm.scale", 1050},
                                   {"blocks.1.feed_forward_norm.scale", 1060},
                                   {"blocks.1.feed_forward_output_norm.scale", 1070},
                                   {"final_norm.scale", 1080}}));
}

TEST(LoadNorms, FillsAResidualPostNormStackAndLeavesTheNormsOfQAndKAlone) {
  Stack stack(NoNorm{}, std::vector(layers, ResPostLN(Same{}, rms(), Same{}, rms())), rms());
  const TensorFile file =
      file_of({"model.layers.0.post_attention_layernorm.weight",
               "model.layers.0.post_feedforward_layernorm.weight",
               "model.layers.1.post_attention_layernorm.weight",
               "model.layers.1.post_feedforward_layernorm.weight", "model.norm.weight",
               "model.layers.0.self_attn.q_norm.weight", "model.layers.0.self_attn.k_norm.weight"});
  load_norms(stack, file, detect_family(file.names()));
  EXPECT_EQ(stack.blocks()[0].attention_output_norm().scale()(0), 1000);
  EXPECT_EQ(stack.blocks()[0].feed_forward_output_norm().scale()(0), 1010);
  EXPECT_EQ(stack.blocks()[1].attention_output_norm().scale()(0), 1020);
  EXPECT_EQ(stack.blocks()[1].feed_forward_output_norm().scale()(0), 1030);
  EXPECT_EQ(stack.final_norm().scale()(0), 1040);
}

TEST(LoadNorms, SkipsANormThatACopyOfTheFamilyLeavesOut) {
  const auto norm = layer();
  Stack stack(NoNorm{}, std::vector(layers, PreLN(norm, Same{}, norm, Same{})), NoNorm{});
  Family without_final = families::gpt2;
  without_final.keys[static_cast<std::size_t>(NormRole::final)] = "";
  load_norms(stack, file_of(gpt2_names), without_final);
  EXPECT_EQ(firsts(stack), Firsts(gpt2_firsts.begin(), gpt2_firsts.end() - 2));
}

std::vector<std::string> gemma2_names() {
  std::vector<std::string> names = {"model.norm.weight"};
  for (const std::string n : {"0", "1"}) {
    for (const std::string key : {"input_layernorm", "post_attention_layernorm",
                                  "pre_feedforward_layernorm", "post_feedforward_layernorm"}) {
      names.push_back("model.layers." + n + "." + key + ".weight");
    }
  }
  return names;
}

TEST(LoadNorms, RefusesAFileThatIsNotTheFamilys) {
  expect_refused(pre_ln(rms(1)), file_of(gemma2_names()), families::gemma,
                 "Stack(3): the file has model.layers.0.post_feedforward_layernorm, which gemma "
                 "has not");
  std::vector<std::string> names = gpt2_names;
  names.push_back("transformer.h.1.ln_cross_attn.weight");
  expect_refused(pre_ln(layer()), file_of(names), families::gpt2,
                 "the file has transformer.h.1.ln_cross_attn, which gpt2 has not");
}

TEST(LoadNorms, RefusesANormThatTheStackHasNot) {
  const auto norm = layer();
  const std::vector blocks(layers, PreLN(norm, Same{}, norm, Same{}));
  expect_refused(Stack(NoNorm{}, blocks, NoNorm{}), file_of(gpt2_names), families::gpt2,
                 "the file has transformer.ln_f, and the stack no final norm");
  std::vector<std::string> bloom;
  for (const std::string prefix :
       {"word_embeddings_layernorm", "h.0.input_layernorm", "h.0.post_attention_layernorm",
        "h.1.input_layernorm", "h.1.post_attention_layernorm", "ln_f"}) {
    bloom.push_back(prefix + ".weight");
    bloom.push_back(prefix + ".bias");
  }
  expect_refused(Stack(NoNorm{}, blocks, norm), file_of(bloom), families::bloom,
                 "the file has word_embeddings_layernorm, and the stack no embedding norm");
  Stack complete(norm, blocks, norm);
  load_norms(complete, file_of(bloom), families::bloom);
  EXPECT_EQ(complete.embedding_norm().scale()(0), 1000);
}

TEST(LoadNorms, RefusesAPartialRMSNorm) {
  const RMSNorm<float> partial(channels,
                               {.epsilon = 1e-6, .scale_offset = 1, .statistics_channels = 1});
  expect_refused(sandwich_ln(partial), file_of(gemma2_names()), families::gemma2,
                 "attention_norm of layer 0 has statistics_channels 1; expected 0 for gemma2");
}

TEST(LoadNorms, ComparesEpsilonAsAFloatAndShowsTheDigitsThatDiffer) {
  const TensorFile file = file_of(gpt2_names);
  auto stack = pre_ln(layer(static_cast<double>(1e-5f)));
  load_norms(stack, file, families::gpt2);
  EXPECT_EQ(firsts(stack), gpt2_firsts);
  expect_refused(pre_ln(layer(1.0000007e-5)), file, families::gpt2,
                 "has epsilon 1.0000007e-05; expected 1e-05 (if");
  Family tiny = families::gpt2;
  tiny.epsilon = 1e-50;
  expect_refused(pre_ln(layer(1e-60)), file, tiny, "has epsilon 1e-60; expected 1e-50 (if");
  expect_refused(deep_norm(layer(1e-12), 1 + 0x1p-20), file, families::bert,
                 "with alpha 1.00000095;");
}

TEST(LoadNorms, IsAllOrNothing) {
  for (std::size_t i = 0; i < 10; ++i) {
    std::vector<std::string> names = gpt2_names;
    TensorFile file = file_of(names);
    file.unreadable = names[i];
    expect_refused(pre_ln(layer()), file, families::gpt2, names[i] + " cannot be read");
    file = file_of(names);
    file.remove(names[i]);
    expect_refused(pre_ln(layer()), file, families::gpt2, "is missing");
    file.add(names[i], {channels + 1}, 1);
    expect_refused(pre_ln(layer()), file, families::gpt2, "[4]; expected [3]");
  }
}

TEST(LoadNorms, RefusesAnotherNumberOfLayers) {
  std::vector<std::string> names = gpt2_names;
  names.push_back("transformer.h.2.ln_1.weight");
  expect_refused(pre_ln(layer()), file_of(names), families::gpt2,
                 "Stack(3): the file has norms of 3 layers under gpt2's names; expected the 2");
  names = gpt2_names;
  names.erase(names.begin() + 4, names.begin() + 8);
  expect_refused(pre_ln(layer()), file_of(names), families::gpt2, "norms of 1 layer under");
  expect_refused(pre_ln(layer()), file_of({"ln_f.weight"}), families::gpt2, "norms of 0 layers");
}

TEST(LoadNorms, RefusesAStackThatIsNotTheFamilys) {
  const TensorFile file = file_of(gpt2_names);
  expect_refused(pre_ln(rms(0, 1e-5)), file, families::gpt2,
                 "attention_norm of layer 0 is an RMSNorm; expected a LayerNorm for gpt2");
  expect_refused(pre_ln(layer(1e-6)), file, families::gpt2,
                 "attention_norm of layer 0 has epsilon 1e-06; expected 1e-05");
  expect_refused(post_ln(layer()), file, families::gpt2,
                 "the blocks are Post-LN; expected Pre-LN for gpt2");
  expect_refused(sandwich_ln(layer()), file, families::gpt2, "the blocks are Sandwich-LN");
  expect_refused(pre_ln(rms()), file, families::gemma, "has scale_offset 0; expected 1 for gemma");
  expect_refused(deep_norm(layer(1e-12), 1.5), file, families::bert,
                 "the blocks are Post-LN with alpha 1.5; expected Post-LN for bert");
  const auto norm = layer(1e-12);
  const std::vector blocks(layers, PostLN(Same{}, norm, Same{}, norm));
  std::vector<std::string> names;
  for (const std::string n : {"0", "1"}) {
    for (const std::string key : {".attention.output.LayerNorm", ".output.LayerNorm"}) {
      names.push_back("encoder.layer." + n + key + ".weight");
      names.push_back("encoder.layer." + n + key + ".bias");
    }
  }
  expect_refused<std::invalid_argument>(Stack(NoNorm{}, blocks, norm), file_of(names),
                                        families::bert, "bert: the family has no final norm");
  const std::vector residuals(layers, PreLNResidual(layer(), Same{}));
  expect_refused<std::invalid_argument>(Stack(NoNorm{}, residuals, NoNorm{}), file, families::gpt2,
                                        "no role in a family");
}

TEST(LoadNorms, TakesAnotherEpsilonFromACopyOfTheFamily) {
  Family mine = families::gpt2;
  mine.epsilon = 1e-6;
  auto stack = pre_ln(layer(1e-6));
  load_norms(stack, file_of(gpt2_names), mine);
  EXPECT_EQ(firsts(stack), gpt2_firsts);
}

TEST(LoadNorms, TakesTheStacksEpsilonWhereTheFamilysVaries) {
  const TensorFile file = file_of(
      {"model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight",
       "model.layers.1.input_layernorm.weight", "model.layers.1.post_attention_layernorm.weight",
       "model.norm.weight"});
  for (const double epsilon : {1e-6, 1e-5}) {
    auto stack = pre_ln(rms(0, epsilon));
    load_norms(stack, file, families::llama);
    EXPECT_EQ(stack.final_norm().scale()(0), 1040);
  }
  Family llama3 = families::llama;
  llama3.epsilon = 1e-5;
  llama3.epsilon_varies = false;
  expect_refused(pre_ln(rms()), file, llama3, "has epsilon 1e-06; expected 1e-05");
}

TEST(SaveNorms, WritesWhatLoadNormsReads) {
  auto stack = pre_ln(layer());
  load_norms(stack, file_of(gpt2_names), families::gpt2);
  for (const std::string_view name : {"gpt2", "gpt2_original", "llms_from_scratch"}) {
    TensorFile file;
    save_norms(std::as_const(stack), file, find_family(name));
    EXPECT_EQ(file.names().size(), 10U);
    EXPECT_EQ(detect_family(file.names()).name, name);
    auto back = pre_ln(layer());
    load_norms(back, file, find_family(name));
    EXPECT_EQ(firsts(back), gpt2_firsts);
  }
  TensorFile file;
  EXPECT_THROW(save_norms(stack, file, families::bert), Error);
  EXPECT_TRUE(file.names().empty());
}

TEST(FindNorms, ListsThemInDataOrderAndNothingElse) {
  TensorFile file;
  for (const char* name :
       {"transformer.ln_f.weight", "transformer.ln_f.bias", "transformer.word_embeddings.weight",
        "transformer.word_embeddings_layernorm.weight",
        "transformer.word_embeddings_layernorm.bias", "transformer.h.10.input_layernorm.bias",
        "transformer.h.10.input_layernorm.weight",
        "transformer.h.2.post_attention_layernorm.weight", "transformer.h.2.input_layernorm.weight",
        "transformer.h.2.self_attention.dense.weight"}) {
    file.add(name, {4}, 0);
  }
  file.add("transformer.h.3.input_layernorm.weight", {2, 5}, 0);  // for load_norm to refuse
  std::vector<std::string> found;
  for (const NormInFile& norm : find_norms(file, families::bloom)) {
    found.push_back(norm.prefix + " " + std::to_string(norm.layer) + " " +
                    detail::name_of(norm.role) + " " + std::to_string(norm.channels));
  }
  const std::vector<std::string> expected = {
      "transformer.word_embeddings_layernorm 0 embedding 4",
      "transformer.h.2.input_layernorm 2 attention 4",
      "transformer.h.2.post_attention_layernorm 2 feed_forward 4",
      "transformer.h.3.input_layernorm 3 attention 10",
      "transformer.h.10.input_layernorm 10 attention 4",
      "transformer.ln_f 0 final 4"};
  EXPECT_EQ(found, expected);
  EXPECT_TRUE(find_norms(file, families::bert).empty());
}

TEST(FindNorms, ListsWhatLooksLikeANormWithoutAFamily) {
  TensorFile file;
  for (const char* name :
       {"vit.blocks.11.norm1.weight", "vit.blocks.11.norm1.bias", "vit.blocks.2.norm1.weight",
        "vit.blocks.2.attn.proj.weight", "model/h3/ln_1/g", "model/h3/attn/c_attn/w", "head.gamma",
        "bn.gamma_beta", "stem.bn_norm.weight", "stem.bn_norm.running_mean", "lm_head.weight",
        "dpgrnn1.intra_ln.weight"}) {
    file.add(name, {4}, 0);
  }
  file.add("h.0.attn.q_norm.weight", {2, 4}, 0);
  std::vector<std::string> found;
  for (const NormInFile& norm : find_norms(file)) {
    EXPECT_EQ(norm.role, NormRole::unknown);
    found.push_back(norm.prefix + " " + std::to_string(norm.layer) + " " +
                    std::to_string(norm.channels));
  }
  EXPECT_EQ(found, (std::vector<std::string>{
                       "dpgrnn1.intra_ln 0 4", "h.0.attn.q_norm 0 8", "head 0 4",
                       "model/h3/ln_1 0 4", "vit.blocks.2.norm1 2 4", "vit.blocks.11.norm1 11 4"}));
}

/// Names alone, as many as a long header has.
struct ManyNames {
  std::vector<std::string> all;
  const std::vector<std::string>& names() const { return all; }
  bool contains(const std::string&) const { return false; }
  std::vector<Index> shape(const std::string&) const { return {channels}; }
  template <class Scalar>
  TokenMatrix<Scalar> matrix(const std::string&) const {
    return {};
  }
};

// Were each name compared with all norms before it, this would take minutes.
TEST(FindNorms, AreFoundAmongVeryManyNames) {
  constexpr std::size_t count = 300'000;
  ManyNames file;
  for (std::size_t i = 0; i < count; ++i) {
    file.all.push_back("h." + std::to_string(i) + ".ln_1.weight");
  }
  const auto norms = find_norms(file, families::gpt2);
  ASSERT_EQ(norms.size(), count);
  EXPECT_EQ(norms[0].prefix, "h.0.ln_1");
}

}  // namespace
}  // namespace tokennorm::test
