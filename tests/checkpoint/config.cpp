// SPDX-License-Identifier: MIT
// The family and ε from config.json, as published models have it, and what is refused.
#include "tensor_file.hpp"
#include <tokennorm/checkpoint/config.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <tuple>
#include <utility>

namespace tokennorm::test {
namespace {

class FamilyFromConfig : public ::testing::Test {
 protected:
  Family family(const std::string& text) const {
    std::ofstream(path_, std::ios::binary) << text;
    return family_from_config(path_);
  }
  /// The error for this text, without what stands before the file's name.
  std::string error(const std::string& text) const {
    const std::string message = message_of<std::runtime_error>([&] { family(text); });
    const std::string before = "tokennorm: family_from_config: " + path_.string() + ": ";
    EXPECT_EQ(message.substr(0, before.size()), before);
    return message.substr(std::min(before.size(), message.size()));
  }
  void TearDown() override { std::filesystem::remove(path_); }

  const std::filesystem::path path_ =
      std::filesystem::temp_directory_path() /
      (std::string("tokennorm_config_") +
       ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".json");
};

TEST_F(FamilyFromConfig, TakesTheModelTypeAndItsEpsilon) {
  const auto expect = [&](const std::string& text, const Family& expected, double epsilon) {
    const Family found = family(text);
    EXPECT_EQ(found.name, expected.name);
    EXPECT_EQ(found.epsilon, epsilon);
    EXPECT_EQ(found.scale_offset, expected.scale_offset);
    EXPECT_FALSE(found.epsilon_varies);
  };
  expect(R"({"model_type": "gpt2", "layer_norm_epsilon": 1e-05})", families::gpt2, 1e-5);
  expect(R"({"model_type": "bert", "layer_norm_eps": 1e-12})", families::bert, 1e-12);
  expect(R"({"model_type": "roberta", "layer_norm_eps": 1e-05})", families::bert, 1e-5);
  expect(R"({"model_type": "xlm-roberta", "layer_norm_eps": 1e-05})", families::bert, 1e-5);
  expect(R"({"model_type": "camembert", "layer_norm_eps": 1e-05})", families::bert, 1e-5);
  expect(R"({"model_type": "electra", "layer_norm_eps": 1e-12})", families::bert, 1e-12);
  expect(R"({"model_type": "gpt_neo", "layer_norm_epsilon": 1e-05})", families::gpt2, 1e-5);
  expect(R"({"model_type": "gpt_bigcode", "layer_norm_epsilon": 1e-05})", families::gpt2, 1e-5);
  expect(R"({"model_type": "qwen2_moe", "rms_norm_eps": 1e-06})", families::llama, 1e-6);
  expect(R"({"model_type": "qwen3_moe", "rms_norm_eps": 1e-06})", families::llama, 1e-6);
  expect(R"({"model_type": "phi3", "rms_norm_eps": 1e-05})", families::llama, 1e-5);
  expect(R"({"model_type": "gpt_oss", "rms_norm_eps": 1e-05})", families::llama, 1e-5);
  expect(R"({"model_type": "minimax_m2", "rms_norm_eps": 1e-06})", families::llama, 1e-6);
  expect(R"({"model_type": "olmo3", "rms_norm_eps": 1e-06})", families::olmo2, 1e-6);
  expect(R"({"model_type": "exaone4", "rms_norm_eps": 1e-05})", families::olmo2, 1e-5);
  expect(R"({"model_type": "mt5", "layer_norm_epsilon": 1e-06})", families::t5, 1e-6);
  expect(R"({"model_type": "umt5", "layer_norm_epsilon": 1e-06})", families::t5, 1e-6);
  expect(R"({"model_type": "bloom", "layer_norm_epsilon": 1e-05})", families::bloom, 1e-5);
  expect(R"({"model_type": "llama", "rms_norm_eps": 1e-05})", families::llama, 1e-5);
  expect(R"({"rms_norm_eps": 1e-06, "model_type": "mistral"})", families::llama, 1e-6);
  expect(R"({"model_type": "qwen3", "rms_norm_eps": 1e-06})", families::llama, 1e-6);
  expect(R"({"model_type": "gemma", "rms_norm_eps": 1e-06})", families::gemma, 1e-6);
  expect(R"({"model_type": "gemma2", "rms_norm_eps": 1e-06})", families::gemma2, 1e-6);
  expect(R"({"model_type": "olmo2", "rms_norm_eps": 1e-06})", families::olmo2, 1e-6);
  expect(R"({"model_type": "t5", "layer_norm_epsilon": 1e-06})", families::t5, 1e-6);
  expect(R"({"model_type": "gpt2", "layer_norm_epsilon": 0.125})", families::gpt2, 0.125);
}

TEST_F(FamilyFromConfig, TakesTheFamilysEpsilonWhereItDoesNotVary) {
  EXPECT_EQ(family(R"({"model_type": "gpt2"})").epsilon, 1e-5);
  EXPECT_EQ(error(R"({"model_type": "roberta"})").substr(0, 44),
            "has no epsilon, which differs between models");
  EXPECT_EQ(error(R"({"model_type": "llama", "vocab_size": 32000})"),
            "has no epsilon, which differs between models of llama; expected rms_norm_eps, "
            "layer_norm_eps or layer_norm_epsilon");
}

TEST_F(FamilyFromConfig, TakesEpsilonFromTheKeyThatTheFamilyHas) {
  EXPECT_EQ(family(R"({"model_type": "nemotron", "norm_eps": 2e-05})").epsilon, 2e-5);
  EXPECT_EQ(family(R"({"model_type": "starcoder2", "norm_epsilon": 2e-05})").epsilon, 2e-5);
  EXPECT_EQ(family(R"({"model_type": "lfm2", "norm_eps": 3e-05})").epsilon, 3e-5);
  EXPECT_EQ(family(R"({"model_type": "mamba2", "layer_norm_epsilon": 3e-05})").epsilon, 3e-5);
  // ModernBERT's config has a second one, which its norms do not read.
  EXPECT_EQ(
      family(R"({"model_type": "modernbert", "norm_eps": 1e-6, "layer_norm_eps": 1e-5})").epsilon,
      1e-6);
  EXPECT_EQ(error(R"({"model_type": "nemotron", "rms_norm_eps": 1e-05})"),
            "has no epsilon, which differs between models of nemotron; expected norm_eps");
}

TEST_F(FamilyFromConfig, TakesTheNestedConfigOfTheModelThatReadsText) {
  const Family gemma3 = family(R"({"model_type": "gemma3", "vision_config": {"layer_norm_eps": 1},
      "text_config": {"model_type": "gemma3_text", "rms_norm_eps": 2e-06}})");
  EXPECT_EQ(gemma3.name, "gemma2");
  EXPECT_EQ(gemma3.epsilon, 2e-6);
  const Family llava = family(R"({"model_type": "llava", "text_config": {"model_type": "mistral",
      "rms_norm_eps": 1e-05}})");
  EXPECT_EQ(llava.name, "llama");
  EXPECT_EQ(llava.epsilon, 1e-5);
  const Family untyped =
      family(R"({"model_type": "qwen3_5", "text_config": {"rms_norm_eps": 3e-06}})");
  EXPECT_EQ(untyped.name, "qwen3_next");
  EXPECT_EQ(untyped.epsilon, 3e-6);
  const Family t5gemma = family(R"({"model_type": "t5gemma", "encoder": {"model_type":
      "t5_gemma_module", "rms_norm_eps": 4e-06}, "decoder": {"rms_norm_eps": 4e-06}})");
  EXPECT_EQ(t5gemma.name, "t5gemma");
  EXPECT_EQ(t5gemma.epsilon, 4e-6);
  EXPECT_EQ(error(R"({"model_type": "clip", "text_config": {"model_type": "clip_text_model"}})")
                .substr(0, 20),
            "model_type is \"clip\"");
}

TEST_F(FamilyFromConfig, TakesTheRuleForTheResidualStream) {
  const auto rule = [&](const std::string& text) {
    const Family found = family(text);
    return std::pair(found.name, found.placement);
  };
  using enum Placement;
  const std::string neox = R"({"model_type": "gpt_neox", "layer_norm_eps": 1e-05)";
  EXPECT_EQ(rule(neox + "}"), std::pair(std::string("gpt_neox"), parallel_two_norms));
  EXPECT_EQ(rule(neox + R"(, "use_parallel_residual": true})").second, parallel_two_norms);
  EXPECT_EQ(rule(neox + R"(, "use_parallel_residual": false})"),
            std::pair(std::string("gpt_neox_sequential"), pre_ln));
  EXPECT_EQ(error(neox + R"(, "use_parallel_residual": 0})"),
            "use_parallel_residual is 0; expected true or false");
  EXPECT_EQ(rule(R"({"model_type": "gptj", "use_parallel_residual": true})").first, "gptj");
  EXPECT_EQ(rule(R"({"model_type": "swin"})").second, pre_ln);
  EXPECT_TRUE(error(R"({"model_type": "vision-encoder-decoder", "encoder": {"model_type": "swinv2"},
                       "decoder": {"model_type": "gpt2"}})")
                  .starts_with("model_type is \"vision-encoder-decoder\"; expected one of"));
  const std::string falcon = R"({"model_type": "falcon")";
  EXPECT_EQ(rule(falcon + "}").first, "falcon");
  EXPECT_EQ(rule(falcon + R"(, "new_decoder_architecture": true})").first, "falcon_two_norms");
  EXPECT_EQ(rule(falcon + R"(, "new_decoder_architecture": true, "num_ln_in_parallel_attn": 1})"),
            std::pair(std::string("falcon"), parallel));
  EXPECT_EQ(rule(falcon + R"(, "parallel_attn": false})"),
            std::pair(std::string("falcon_sequential"), pre_ln));
  EXPECT_EQ(rule(R"({"model_type": "opt"})"), std::pair(std::string("opt"), pre_ln));
  const Family small = family(R"({"model_type": "opt", "do_layer_norm_before": false})");
  EXPECT_EQ(small.placement, post_ln);
  EXPECT_FALSE(small.has(NormRole::final));
  EXPECT_TRUE(family(R"({"model_type": "modernbert", "norm_bias": true})").has_shift());
  EXPECT_FALSE(family(R"({"model_type": "modernbert", "norm_bias": false})").has_shift());

  const std::string granite = R"({"model_type": "granite", "rms_norm_eps": 1e-05)";
  const Family scaled = family(granite + R"(, "residual_multiplier": 0.22})");
  EXPECT_EQ(scaled.residual_scale, 0.22);
  EXPECT_TRUE(scaled.residual_scale_key.empty());
  EXPECT_EQ(family(granite + "}").residual_scale, 1) << "the default of GraniteConfig";
  EXPECT_EQ(error(granite + R"(, "residual_multiplier": "0.22"})"),
            "residual_multiplier is \"0.22\"; expected a number, 0 or more");
  EXPECT_EQ(rule(R"({"model_type": "minimax", "rms_norm_eps": 1e-05, "mlp_alpha_factor": 3.5})"),
            std::pair(std::string("minimax"), normed_stream));
  EXPECT_EQ(rule(R"({"model_type": "deepseek_v4", "rms_norm_eps": 1e-06, "hc_mult": 4})"),
            std::pair(std::string("deepseek_v4"), multi_stream));
}

TEST_F(FamilyFromConfig, RefusesAKeyThatTellsAnotherRule) {
  const std::string llama = R"({"model_type": "llama", "rms_norm_eps": 1e-05, )";
  for (const std::string key :
       {"\"residual_multiplier\": 0.22", "\"hc_mult\": 4", "\"num_residual_streams\": 2",
        "\"attn_res_block_size\": 12", "\"full_attn_alpha_factor\": 3.5", "\"mlp_beta_factor\": 2",
        "\"layernorm_mlp_alpha\": 3.5", "\"altup_num_inputs\": 4",
        "\"use_parallel_residual\": true", "\"apply_residual_connection_post_layernorm\": true"}) {
    const std::string name = key.substr(1, key.find('"', 1) - 1);
    EXPECT_EQ(error(llama + key + "}"),
              name + " is " + key.substr(key.find(": ") + 2) +
                  ", which is another rule for the residual stream than that of llama");
  }
  for (const std::string key :
       {"\"residual_multiplier\": 1.0", "\"hc_mult\": 1", "\"attn_res_block_size\": null",
        "\"mlp_alpha_factor\": 1", "\"use_parallel_residual\": false"}) {
    EXPECT_EQ(family(llama + key + "}").name, "llama") << key;
  }
  EXPECT_EQ(error(R"({"model_type": "albert", "layer_norm_eps": 1e-12, "num_hidden_groups": 2})"),
            "num_hidden_groups is 2, which is another rule for the residual stream than that of "
            "albert");
}

TEST_F(FamilyFromConfig, SaysWhichModelTypesAreKnown) {
  std::string known = "expected one of";
  for (const FamilyRow& row : families::all) {
    const bool is_sibling = row.name == "gpt2_original" || row.name == "t5_decoder" ||
                            row.name == "whisper_decoder" || row.name == "t5gemma_decoder" ||
                            row.name == "falcon_two_norms" || row.name == "falcon_sequential" ||
                            row.name == "opt_350m" || row.name == "gpt_neox_sequential";
    if (!is_sibling && !row.model_types.empty()) known += " " + std::string(row.model_types);
  }
  EXPECT_NE(known.find(" llama mistral mixtral qwen2 "), std::string::npos);
  EXPECT_EQ(error(R"({"model_type": "gpt1"})"), "model_type is \"gpt1\"; " + known);
  EXPECT_EQ(error(R"({"model_type": "llama mistral"})"),
            "model_type is \"llama mistral\"; " + known);
  EXPECT_EQ(error(R"({"model_type": "\u001b[31mred\n"})"),
            R"(model_type is "\x1b[31mred\x0a"; )" + known);
  EXPECT_EQ(error(R"({"model_type": ""})"), "model_type is \"\"; " + known);
  EXPECT_EQ(error(R"({"model_type": 2})"), "has no model_type; " + known);
  EXPECT_EQ(error("{}"), "has no model_type; " + known);
}

TEST_F(FamilyFromConfig, RefusesWhatIsNoConfig) {
  for (const std::string text : {"[]", "7", "\"gpt2\""}) {
    EXPECT_EQ(error(text), "is not a JSON object") << text;
  }
  for (const std::string text : {"", "{", "{\"model_type\": \"gpt2\"} x",
                                 R"({"model_type": "llama", "rms_norm_eps": 1e999})"}) {
    EXPECT_EQ(error(text), "is not JSON, or has a number beyond those of double") << text;
  }
  EXPECT_EQ(error("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
            "is a Git LFS pointer, not the file; run git lfs pull");
  EXPECT_EQ(error(R"({"model_type": "gpt2", "layer_norm_epsilon": "1e-5"})"),
            "layer_norm_epsilon is \"1e-5\"; expected a number, 0 or more");
  EXPECT_EQ(error(R"({"model_type": "gpt2", "layer_norm_epsilon": -1})"),
            "layer_norm_epsilon is -1; expected a number, 0 or more");
  EXPECT_EQ(error(R"({"model_type": "t5", "layer_norm_epsilon": 1e-6, "rms_norm_eps": 1e-5})"),
            "rms_norm_eps is 1e-05 and layer_norm_epsilon 1e-06; expected one epsilon");
  EXPECT_EQ(message_of<std::runtime_error>([] { family_from_config("no/such/config.json"); }),
            "tokennorm: no/such/config.json: cannot be opened: No such file or directory");
}

TEST_F(FamilyFromConfig, ReadsAndRefusesWhatIsNestedDeeplyWithoutAStackFrameForEachLevel) {
  for (const auto& [open, close, name] :
       {std::tuple("[", "]", "an array"), std::tuple("{\"a\":", "}", "an object")}) {
    std::string deep;
    for (int level = 0; level < 100'000; ++level) deep += open;
    deep += '1';
    for (int level = 0; level < 100'000; ++level) deep += close;
    EXPECT_EQ(error(R"({"model_type": "llama", "rms_norm_eps": )" + deep + "}"),
              std::string("rms_norm_eps is ") + name + "; expected a number, 0 or more");
    EXPECT_EQ(error(R"({"model_type": )" + deep + "}").substr(0, 17), "has no model_type");
    EXPECT_EQ(
        family(R"({"model_type": "llama", "rms_norm_eps": 1e-5, "other": )" + deep + "}").name,
        "llama");
    EXPECT_EQ(error(R"({"model_type": "llama", "rms_norm_eps": )" + deep),
              "is not JSON, or has a number beyond those of double");
  }
}

TEST_F(FamilyFromConfig, ReadsFilesOnlyAndNotWithoutEnd) {
  const std::string folder = std::filesystem::temp_directory_path().string();
  EXPECT_EQ(message_of<std::runtime_error>([&] { family_from_config(folder); }),
            "tokennorm: " + folder + ": is not a file; expected one");
  if (std::filesystem::exists("/dev/zero")) {
    EXPECT_EQ(message_of<std::runtime_error>([] { family_from_config("/dev/zero"); }),
              "tokennorm: /dev/zero: is not a file; expected one");
  }
  std::ofstream(path_, std::ios::binary) << "{";
  std::filesystem::resize_file(path_, 10'000'001);
  EXPECT_EQ(message_of<std::runtime_error>([&] { family_from_config(path_); }),
            "tokennorm: " + path_.string() +
                ": the config has 10000001 bytes; expected at most 10000000");
}

}  // namespace
}  // namespace tokennorm::test
