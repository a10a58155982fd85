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

TEST_F(FamilyFromConfig, SaysWhichModelTypesAreKnown) {
  const std::string known =
      "expected one of gpt2 gpt_neo gpt_bigcode bert roberta camembert xlm-roberta electra bloom "
      "llama mistral mixtral qwen2 qwen2_moe qwen3 qwen3_moe phi3 minimax_m2 gpt_oss gemma gemma2 "
      "gemma3_text olmo2 olmo3 exaone4 t5 mt5 umt5";
  EXPECT_EQ(error(R"({"model_type": "opt"})"), "model_type is \"opt\"; " + known);
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
            "rms_norm_eps and layer_norm_epsilon differ");
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
