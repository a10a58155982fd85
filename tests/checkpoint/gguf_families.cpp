// SPDX-License-Identifier: MIT
// The family, ε and residual rule from a GGUF's metadata, under llama.cpp's names; norms and stacks
// from there; and the same bits as from the model's safetensors.
#include "../support/message_of.hpp"
#include "files.hpp"
#include "gguf_file.hpp"
#include <tokennorm/checkpoint/gguf.hpp>
#include <tokennorm/checkpoint/safetensors.hpp>
#include <tokennorm/tokennorm.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace tokennorm::test {
namespace {

using Error = std::runtime_error;
constexpr Index channels = 3;

const std::string rms_key = ".attention.layer_norm_rms_epsilon";
const std::string layer_key = ".attention.layer_norm_epsilon";

GgufFile model(const std::string& architecture, const std::string& epsilon_key = rms_key,
               float epsilon = 1e-6F) {
  GgufFile file;
  file.text("general.architecture", architecture).number(architecture + epsilon_key, epsilon);
  return file;
}

Gguf open(const GgufFile& file) { return Gguf::open(lasting_file(file.bytes())); }

Family family_of(const GgufFile& file) { return family_from_gguf(open(file)); }

/// The error, without what stands before the fault.
std::string error_of(const GgufFile& file) {
  const Gguf opened = open(file);
  const std::string message = message_of<Error>([&] { family_from_gguf(opened); });
  const std::string before = "tokennorm: family_from_gguf: " + opened.name() + ": ";
  EXPECT_EQ(message.substr(0, before.size()), before);
  return message.substr(std::min(before.size(), message.size()));
}

// ---- families -----------------------------------------------------------------------------------

/// Keys by hand, as llama.cpp's tensor mapping has them.
TEST(FamilyFromGguf, KnowsTheNamesOfEachArchitecture) {
  using Keys = std::vector<std::pair<NormRole, const char*>>;
  const auto expect = [](const GgufFile& file, const FamilyRow& row, const Keys& keys) {
    SCOPED_TRACE(row.name);
    const Family family = family_from_gguf(open(file), row);
    EXPECT_EQ(family.name, row.name);
    EXPECT_EQ(family.norm, row.norm);
    EXPECT_EQ(family.placement, row.placement);
    EXPECT_EQ(family.scale_offset, 0);
    EXPECT_FALSE(family.epsilon_varies);
    for (const auto& [role, key] : keys) EXPECT_EQ(family.key(role, 7), key);
    for (std::size_t i = 0; i < detail::role_count; ++i) {
      const auto role = static_cast<NormRole>(i);
      if (is_inside_sublayer(role)) continue;
      const bool is_listed = std::any_of(keys.begin(), keys.end(),
                                         [&](const auto& listed) { return listed.first == role; });
      EXPECT_EQ(family.has(role), is_listed) << detail::name_of(role);
    }
  };
  using enum NormRole;
  const Keys pre_ln = {
      {attention, "blk.7.attn_norm"}, {feed_forward, "blk.7.ffn_norm"}, {final, "output_norm"}};
  const Keys sandwich = {{attention, "blk.7.attn_norm"},
                         {attention_output, "blk.7.post_attention_norm"},
                         {feed_forward, "blk.7.ffn_norm"},
                         {feed_forward_output, "blk.7.post_ffw_norm"},
                         {final, "output_norm"}};
  for (const char* name : {"gpt2", "starcoder"}) {
    expect(model(name, layer_key), families::gpt2, pre_ln);
  }
  for (const char* name : {"llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "phi3", "llama4",
                           "deepseek2", "bitnet", "minimax-m2"}) {
    expect(model(name), families::llama, pre_ln);
  }
  expect(model("internlm2"), families::llama_meta, pre_ln);
  expect(model("gemma"), families::gemma, pre_ln);
  expect(model("nemotron", layer_key), families::nemotron, pre_ln);
  expect(model("starcoder2", layer_key), families::starcoder2, pre_ln);
  expect(model("apertus"), families::apertus, pre_ln);
  expect(model("mpt", layer_key), families::mpt, pre_ln);
  expect(model("gptneox", layer_key), families::gpt_neox, pre_ln);
  expect(model("granite").number("granite.residual_scale", 0.22F), families::granite, pre_ln);
  for (const char* name : {"gemma2", "gemma3", "gemma-embedding"}) {
    expect(model(name), families::gemma2, sandwich);
  }
  // Before the feed-forward, though it is called as Gemma 2's on the attention's output.
  const Keys post_attention = {{attention, "blk.7.attn_norm"},
                               {feed_forward, "blk.7.post_attention_norm"},
                               {final, "output_norm"}};
  expect(model("gpt-oss"), families::llama, post_attention);
  for (const char* name : {"qwen3next", "qwen35", "qwen35moe"}) {
    expect(model(name), families::qwen3_next, post_attention);
  }
  for (const char* name : {"lfm2", "lfm2moe"}) {
    expect(model(name), families::lfm2,
           {{attention, "blk.7.attn_norm"},
            {feed_forward, "blk.7.ffn_norm"},
            {final, "token_embd_norm"}});
  }
  for (const char* name : {"mamba", "mamba2", "nemotron_h"}) {
    expect(model(name), families::mamba, {{mixer, "blk.7.attn_norm"}, {final, "output_norm"}});
  }
  const Keys one_norm = {{attention, "blk.7.attn_norm"}, {final, "output_norm"}};
  expect(model("gptj", layer_key), families::gptj, one_norm);
  expect(model("phi2", layer_key), families::phi, one_norm);
  expect(model("command-r", layer_key), families::cohere, one_norm);
  expect(model("falcon", layer_key), families::falcon, one_norm);
  expect(model("falcon", layer_key), families::falcon_two_norms,
         {{attention, "blk.7.attn_norm_2"},
          {feed_forward, "blk.7.attn_norm"},
          {final, "output_norm"}});
  expect(model("modern-bert", layer_key), families::modernbert,
         {{embedding, "token_embd_norm"},
          {attention, "blk.7.attn_norm"},
          {feed_forward, "blk.7.ffn_norm"},
          {final, "output_norm"}});
  expect(model("glm4"), families::glm4, sandwich);
  expect(model("grok"), families::grok2,
         {{attention, "blk.7.attn_norm"},
          {attention_output, "blk.7.attn_output_norm"},
          {feed_forward, "blk.7.ffn_norm"},
          {feed_forward_output, "blk.7.post_ffw_norm"},
          {final, "output_norm"}});
  expect(model("olmo2"), families::olmo2,
         {{attention_output, "blk.7.post_attention_norm"},
          {feed_forward_output, "blk.7.post_ffw_norm"},
          {final, "output_norm"}});
  expect(model("bert", layer_key), families::bert,
         {{embedding, "token_embd_norm"},
          {attention, "blk.7.attn_output_norm"},
          {feed_forward, "blk.7.layer_output_norm"}});
  expect(model("bloom", layer_key), families::bloom,
         {{embedding, "token_embd_norm"},
          {attention, "blk.7.attn_norm"},
          {feed_forward, "blk.7.ffn_norm"},
          {final, "output_norm"}});
  expect(model("t5"), families::t5,
         {{attention, "enc.blk.7.attn_norm"},
          {feed_forward, "enc.blk.7.ffn_norm"},
          {final, "enc.output_norm"}});
  expect(model("t5"), families::t5_decoder,
         {{attention, "dec.blk.7.attn_norm"},
          {cross_attention, "dec.blk.7.cross_attn_norm"},
          {feed_forward, "dec.blk.7.ffn_norm"},
          {final, "dec.output_norm"}});
  const Family llama = family_of(model("qwen3"));
  EXPECT_EQ(llama.key(query, 1), "blk.1.attn_q_norm");
  EXPECT_EQ(llama.key(key, 1), "blk.1.attn_k_norm");
  EXPECT_EQ(llama.key(query_latent, 1), "blk.1.attn_q_a_norm");
  EXPECT_EQ(llama.key(key_value_latent, 1), "blk.1.attn_kv_a_norm");
  EXPECT_EQ(llama.key(attention_sub, 1), "blk.1.attn_sub_norm");
  EXPECT_EQ(llama.key(feed_forward_sub, 1), "blk.1.ffn_sub_norm");
  EXPECT_EQ(family_of(model("qwen3next")).key(gated, 1), "blk.1.ssm_norm");
}

TEST(FamilyFromGguf, HasARowForEachArchitectureThatIsListedAndAKeyForEachOfItsNorms) {
  for (const auto& entry : detail::gguf_architectures) {
    SCOPED_TRACE(entry.family);
    const FamilyRow& row = find_family(entry.family);
    const std::string first(entry.architectures.substr(0, entry.architectures.find(' ')));
    GgufFile file = model(first, row.norm == NormKind::rms_norm ? rms_key : layer_key);
    file.number(first + ".residual_scale", 1.0F);
    const Family family = family_from_gguf(open(file), row);
    EXPECT_EQ(family.name, row.name);
    for (std::size_t i = 0; i < detail::role_count; ++i) {
      const auto role = static_cast<NormRole>(i);
      EXPECT_TRUE(family.has(role) || !row.has(role)) << detail::name_of(role);
    }
  }
}

TEST(FamilyFromGguf, TakesOfSeveralRowsThatWhoseNormsAreThere) {
  const auto with = [](GgufFile file, const std::vector<std::string>& names) {
    for (const std::string& name : names) file.add(name + ".weight", {1}, 0, raw(1.0F));
    return file;
  };
  const std::vector<std::string> encoder = {"enc.blk.0.attn_norm", "enc.blk.0.ffn_norm"};
  const std::vector<std::string> decoder = {"dec.blk.0.attn_norm", "dec.blk.0.cross_attn_norm",
                                            "dec.blk.0.ffn_norm"};
  EXPECT_EQ(family_of(with(model("t5"), encoder)).name, "t5");
  EXPECT_EQ(family_of(with(model("t5"), decoder)).name, "t5_decoder");
  EXPECT_EQ(family_of(with(with(model("t5"), decoder), encoder)).name, "t5");
  EXPECT_EQ(error_of(with(model("t5"), {"enc.blk.0.attn_norm", "dec.blk.0.attn_norm"})),
            "general.architecture is \"t5\", and the first layer has not all norms of t5 or "
            "t5_decoder");
  const GgufFile falcon = with(model("falcon", layer_key), {"blk.0.attn_norm"});
  EXPECT_EQ(family_of(falcon).name, "falcon");
  EXPECT_EQ(family_of(with(falcon, {"blk.0.attn_norm_2"})).name, "falcon_two_norms");

  const Gguf file = open(model("t5"));
  expect_error([&] { family_from_gguf(file, families::llama); },
               {file.name(),
                "general.architecture is \"t5\", which is no llama; expected t5 or t5_decoder"});
}

/// The number that stands in config.json, and not the float nearest to it.
TEST(FamilyFromGguf, TakesEpsilonAsItWasWrittenDown) {
  for (const double epsilon : {1e-5, 1e-6, 1e-8, 1e-12, 0.0, 0.125, 1.5e-5, 9.99999e-7}) {
    EXPECT_EQ(family_of(model("llama", rms_key, static_cast<float>(epsilon))).epsilon, epsilon);
  }
  for (const double epsilon : {1e-5, 1.00000000001e-5, 1e300}) {
    GgufFile of_double;
    of_double.text("general.architecture", "llama").number("llama" + rms_key, epsilon);
    EXPECT_EQ(family_of(of_double).epsilon, epsilon);
  }
  // T5's converter writes both; the norm's own is meant.
  GgufFile both = model("t5", rms_key, 1e-6F);
  both.number("t5" + layer_key, 1e-5F);
  EXPECT_EQ(family_from_gguf(open(both), families::t5).epsilon, 1e-6);
}

TEST(FamilyFromGguf, RefusesWhatSaysTooLittle) {
  EXPECT_EQ(error_of(GgufFile()), "has no general.architecture");
  EXPECT_EQ(error_of(GgufFile().number("general.architecture", std::uint32_t{7})),
            "general.architecture is 7; expected a string");
  const std::string unknown = error_of(model("rwkv\n"));
  EXPECT_EQ(unknown.substr(0, unknown.find("gpt2")),
            "general.architecture is \"rwkv\\x0a\"; expected one of ");
  EXPECT_NE(unknown.find("gemma2 gemma3"), unknown.npos);
  for (const std::string once : {" t5 ", " falcon "}) {
    EXPECT_EQ(unknown.find(once), unknown.rfind(once)) << once;
    EXPECT_NE(unknown.find(once), unknown.npos) << once;
  }
  EXPECT_EQ(error_of(model("")).substr(0, 26), "general.architecture is \"\"");
  EXPECT_EQ(error_of(model("llama qwen2")).substr(0, 37),
            "general.architecture is \"llama qwen2\"");

  EXPECT_EQ(error_of(model("llama", layer_key)),
            "has no llama.attention.layer_norm_rms_epsilon; expected one, the epsilon");
  EXPECT_EQ(error_of(model("bert", rms_key)),
            "has no bert.attention.layer_norm_epsilon; expected one, the epsilon");
  const std::string is = "llama.attention.layer_norm_rms_epsilon is ";
  const std::string expected = "; expected a floating-point number, 0 or more";
  EXPECT_EQ(error_of(model("llama", rms_key, -1e-6F)), is + "-1e-06" + expected);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(error_of(model("llama", rms_key, nan)), is + "nan" + expected);
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(error_of(model("llama", rms_key, infinity)), is + "inf" + expected);
  EXPECT_EQ(error_of(GgufFile().text("general.architecture", "llama").text("llama" + rms_key, "1")),
            is + "\"1\"" + expected);
}

TEST(FamilyFromGguf, RefusesAnotherResidualRuleThanTheFamilys) {
  EXPECT_EQ(family_of(model("llama")
                          .number("llama.use_parallel_residual", false)
                          .number("llama.swin_norm", false)
                          .number("llama.rescale_every_n_layers", std::uint32_t{0})
                          .number("llama.residual_scale", 1.0F)
                          .number("llama.embedding_scale", 4.0F)
                          .number("other.hyper_connection.count", std::uint32_t{4}))
                .name,
            "llama");
  EXPECT_EQ(error_of(model("llama").number("llama.use_parallel_residual", true)),
            "llama.use_parallel_residual is true; expected false, or none for llama");
  EXPECT_EQ(error_of(model("llama").number("llama.swin_norm", true)),
            "llama.swin_norm is true; expected none for llama");
  EXPECT_EQ(error_of(model("llama").number("llama.rescale_every_n_layers", std::uint32_t{6})),
            "llama.rescale_every_n_layers is 6; expected none for llama");
  EXPECT_EQ(error_of(model("llama").number("llama.residual_scale", 0.25F)),
            "llama.residual_scale is 0.25; expected 1, or none for llama");
  EXPECT_EQ(error_of(model("llama").text("llama.residual_scale", "1")),
            "llama.residual_scale is \"1\"; expected a floating-point number, 0 or more");
  EXPECT_EQ(error_of(model("llama").number("llama.hyper_connection.count", std::uint32_t{4})),
            "llama.hyper_connection.count is 4; expected none for llama");
  EXPECT_EQ(error_of(model("gemma2").number("gemma2.altup.num_inputs", std::uint32_t{4})),
            "gemma2.altup.num_inputs is 4; expected none for gemma2");
}

TEST(FamilyFromGguf, TakesTheResidualRuleThatTheFamilyLeavesOpen) {
  const GgufFile neox = model("gptneox", layer_key);
  const auto placement_of = [](GgufFile file, bool parallel) {
    return family_of(file.number("gptneox.use_parallel_residual", parallel)).placement;
  };
  EXPECT_EQ(placement_of(neox, true), Placement::parallel_two_norms);
  EXPECT_EQ(placement_of(neox, false), Placement::pre_ln);
  GgufFile number = neox;
  EXPECT_EQ(error_of(number.number("gptneox.use_parallel_residual", std::uint32_t{0})),
            "gptneox.use_parallel_residual is 0; expected true or false for gpt_neox");

  const Family granite = family_of(model("granite").number("granite.residual_scale", 0.22F));
  EXPECT_EQ(granite.residual_scale, 0.22);
  EXPECT_EQ(granite.residual_scale_key, "");
  EXPECT_EQ(error_of(model("granite")),
            "has no granite.residual_scale; expected one, the factor of updates");
  EXPECT_EQ(
      family_of(model("deepseek4").number("deepseek4.hyper_connection.count", std::uint32_t{4}))
          .placement,
      Placement::multi_stream);
}

// ---- norms and stacks ---------------------------------------------------------------------------

struct Same {
  TokenMatrix<float> operator()(const TokenMatrix<float>& x) const { return x; }
};

/// Norms of these names, with values first, first + 1, first + 2; 10 more in each.
void add_norms(GgufFile& file, const std::vector<std::string>& names, float first = 100) {
  for (const std::string& name : names) {
    file.add<float>(name, Eigen::VectorXf::LinSpaced(channels, first, first + 2));
    first += 10;
  }
}

std::vector<std::string> layers_of(const std::vector<std::string>& keys, const std::string& last) {
  std::vector<std::string> names;
  for (const std::string layer : {"0", "1"})
    for (const std::string& key : keys) names.push_back("blk." + layer + "." + key + ".weight");
  names.push_back(last + ".weight");
  return names;
}

template <class AnyStack>
std::vector<float> firsts(AnyStack& stack) {
  std::vector<float> result;
  stack.visit_parameters(
      [&](const std::string&, auto& value, auto&) { result.push_back(value(0)); });
  return result;
}

TEST(GgufNorms, FillAPreLNStackAndLeaveThoseInsideSublayersAlone) {
  GgufFile made = model("qwen3");
  add_norms(made, layers_of({"attn_norm", "ffn_norm"}, "output_norm"));
  add_norms(made, layers_of({"attn_q_norm", "attn_k_norm"}, "v.blk.0.attn_q_norm"));
  // A layer that predicts further tokens stands behind the stack.
  add_norms(made, {"blk.2.attn_norm.weight", "blk.2.ffn_norm.weight", "blk.2.nextn.enorm.weight"});
  const Gguf file = open(made);
  const Family family = family_from_gguf(file);
  const RMSNorm<float> norm(channels);
  Stack stack(NoNorm{}, std::vector(2, PreLN(norm, Same{}, norm, Same{})), norm);
  load_norms(stack, file, family);
  EXPECT_EQ(firsts(stack), (std::vector<float>{100, 110, 120, 130, 140}));

  const std::vector<NormInFile> norms = find_norms(file, family);
  ASSERT_EQ(norms.size(), 11U);
  EXPECT_EQ(norms[2].prefix, "blk.0.attn_q_norm");
  EXPECT_EQ(norms[2].role, NormRole::query);
  EXPECT_EQ(norms[10].prefix, "output_norm");
}

TEST(GgufNorms, FillAPostLNStackWithShifts) {
  GgufFile made = model("bert", layer_key, 1e-12F);
  std::vector<std::string> names = {"token_embd_norm.weight", "token_embd_norm.bias"};
  for (const std::string layer : {"0", "1"})
    for (const std::string key : {"attn_output_norm", "layer_output_norm"})
      for (const std::string parameter : {"weight", "bias"})
        names.push_back("blk." + layer + "." + key + "." + parameter);
  add_norms(made, names);
  const Gguf file = open(made);
  const LayerNorm<float> norm(channels, {.epsilon = 1e-12});
  Stack stack(norm, std::vector(2, PostLN(Same{}, norm, Same{}, norm)), NoNorm{});
  load_norms(stack, file, family_from_gguf(file));
  EXPECT_EQ(firsts(stack), (std::vector<float>{100, 110, 120, 130, 140, 150, 160, 170, 180, 190}));
}

TEST(GgufNorms, FillAResidualPostNormStack) {
  GgufFile made = model("olmo2");
  add_norms(made, layers_of({"post_attention_norm", "post_ffw_norm"}, "output_norm"));
  const Gguf file = open(made);
  const RMSNorm<float> norm(channels);
  Stack stack(NoNorm{}, std::vector(2, ResPostLN(Same{}, norm, Same{}, norm)), norm);
  load_norms(stack, file, family_from_gguf(file));
  EXPECT_EQ(firsts(stack), (std::vector<float>{100, 110, 120, 130, 140}));
}

TEST(GgufNorms, FillAScaledStackAndAParallelOne) {
  GgufFile granite = model("granite").number("granite.residual_scale", 0.22F);
  add_norms(granite, layers_of({"attn_norm", "ffn_norm"}, "output_norm"));
  const Gguf file = open(granite);
  const RMSNorm<float> norm(channels);
  const auto stack_of = [&](double factor) {
    const auto f = Scaled(Same{}, factor);
    return Stack(NoNorm{}, std::vector(2, PreLN(norm, f, norm, f)), norm);
  };
  auto stack = stack_of(0.22);
  load_norms(stack, file, family_from_gguf(file));
  EXPECT_EQ(firsts(stack), (std::vector<float>{100, 110, 120, 130, 140}));
  auto other = stack_of(0.25);
  expect_error([&] { load_norms(other, file, family_from_gguf(file)); },
               {"scaled by 0.25", "0.22"});

  GgufFile neox = model("gptneox", layer_key, 1e-5F);
  std::vector<std::string> names = layers_of({"attn_norm", "ffn_norm"}, "output_norm");
  add_norms(neox, names);
  for (std::string& name : names) name.replace(name.size() - 6, 6, "bias");
  add_norms(neox, names, 500);
  const Gguf parallel = open(neox);
  const LayerNorm<float> layer(channels);
  Stack blocks(NoNorm{}, std::vector(2, ParallelLN(layer, Same{}, layer, Same{})), layer);
  load_norms(blocks, parallel, family_from_gguf(parallel));
  EXPECT_EQ(firsts(blocks), (std::vector<float>{100, 500, 110, 510, 120, 520, 130, 530, 140, 540}));
}

TEST(GgufNorms, RefuseANormOfTheStreamThatTheFamilyHasNot) {
  GgufFile made = model("llama");
  add_norms(made, layers_of({"attn_norm", "ffn_norm", "post_ffw_norm"}, "output_norm"));
  const Gguf file = open(made);
  const RMSNorm<float> norm(channels);
  Stack stack(NoNorm{}, std::vector(2, PreLN(norm, Same{}, norm, Same{})), norm);
  expect_error([&] { load_norms(stack, file, family_from_gguf(file)); },
               {"the file has blk.0.post_ffw_norm, which llama has not"});
}

/// The + 1 is in the file: norms that would add it once more are refused, and stay as they were.
TEST(GgufNorms, RefuseAScaleOffset) {
  GgufFile made = model("gemma");
  add_norms(made, layers_of({"attn_norm", "ffn_norm"}, "output_norm"));
  const Gguf file = open(made);
  const std::string words =
      "scale_offset is 1; expected 0: the scales in the file have the +1 of such models already";
  RMSNorm<float> plus_one(channels, {.scale_offset = 1});
  expect_error([&] { load_norm(plus_one, file, "output_norm"); }, {"RMSNorm(3): ", words});
  EXPECT_EQ(plus_one.scale(), Eigen::VectorXf::Zero(channels));
  AnyNorm<float> any = make_norm<float>(families::gemma, channels);
  expect_error([&] { load_norm(any, file, "output_norm"); }, {words});

  Stack stack(NoNorm{}, std::vector(2, PreLN(plus_one, Same{}, plus_one, Same{})), plus_one);
  expect_error([&] { load_norms(stack, file, family_from_gguf(file)); },
               {"Stack(3): a norm's ", words});
  expect_error([&] { load_norms(stack, file, families::gemma); },
               {"Stack(3): gemma's ", words, "family_from_gguf"});
  EXPECT_EQ(firsts(stack), std::vector<float>(5, 0));

  RMSNorm<float> plain(channels);
  load_norm(plain, file, "output_norm");
  EXPECT_EQ(plain.scale()(0), 140);
}

// ---- the same bits ------------------------------------------------------------------------------

/// One model in both formats, for every family with a scale offset that there are such files of: γ
/// as training leaves it in bfloat16, and 1 + γ in float, as llama.cpp's converter writes it.
TEST(GgufNorms, GiveTheBitsOfTheSafetensorsOfOneModel) {
  constexpr Index width = 67;
  std::mt19937 random(20);
  std::normal_distribution<float> normal;
  std::size_t families_seen = 0;
  for (const auto& row : detail::gguf_architectures) {
    const FamilyRow& family = find_family(row.family);
    if (family.scale_offset == 0) continue;
    SCOPED_TRACE(row.family);
    ++families_seen;
    const std::string architecture(row.architectures.substr(0, row.architectures.find(' ')));
    const std::string key = family.norm == NormKind::rms_norm ? rms_key : layer_key;
    GgufFile made = model(architecture, key, static_cast<float>(family.epsilon));
    const Family in_gguf = family_of(made);
    SafetensorsWriter writer;
    std::vector<NormRole> roles;
    for (std::size_t i = 0; i < detail::role_count; ++i) {
      const auto role = static_cast<NormRole>(i);
      if (!family.has(role) || role == NormRole::gated) continue;  // which has no offset
      roles.push_back(role);
      const auto random_vector = [&] {
        Eigen::VectorXf values(width);
        for (float& value : values) value = 0.3F * normal(random);
        return Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, 1>(values.cast<Eigen::bfloat16>());
      };
      const auto scale = random_vector(), shift = random_vector();
      const float offset = static_cast<float>(family.scale_offset);
      writer.add(family.key(role, 0) + ".weight", scale);
      made.add<float>(in_gguf.key(role, 0) + ".weight",
                      (scale.cast<float>().array() + offset).matrix());
      if (family.norm == NormKind::rms_norm) continue;
      writer.add(family.key(role, 0) + ".bias", shift);
      made.add<float>(in_gguf.key(role, 0) + ".bias", shift.cast<float>());
    }
    const TemporaryFolder folder;
    writer.save(folder / "model.safetensors");
    const Safetensors safetensors = Safetensors::open(folder / "model.safetensors");
    const Gguf gguf = open(made);
    TokenMatrix<float> x(5, width);
    for (float& value : x.reshaped()) value = 4 * normal(random);
    ASSERT_FALSE(roles.empty());
    for (const NormRole role : roles) {
      SCOPED_TRACE(detail::name_of(role));
      AnyNorm<float> from_safetensors = make_norm<float>(family, width);
      AnyNorm<float> from_gguf = make_norm<float>(in_gguf, width);
      load_norm(from_safetensors, safetensors, family.key(role, 0));
      load_norm(from_gguf, gguf, in_gguf.key(role, 0));
      EXPECT_EQ(from_gguf(x), from_safetensors(x));
      const TokenMatrix<double> wide = x.cast<double>();
      EXPECT_LE((from_gguf(wide) - from_safetensors(wide)).cwiseAbs().maxCoeff(), 1e-5);
    }
  }
  EXPECT_GE(families_seen, 4U);
}

}  // namespace
}  // namespace tokennorm::test
