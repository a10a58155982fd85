// SPDX-License-Identifier: MIT
// The model as a file: it comes back with the same bits, and its tensors are what the families'
// own code would read.
#include "02_train_gpt/checkpoint.hpp"

#include "gradient_check.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace gpt::test {
namespace {

using tokennorm::FamilyRow;
using tokennorm::Safetensors;
using Tokens = TokenMatrix<float>;

constexpr Index channels = 6, heads = 2, context = 5;

class Checkpoint : public ::testing::TestWithParam<const FamilyRow*> {
 protected:
  Checkpoint() {
    shake(model, Seed{12});  // no norm, no bias is as it was at the start
    path += std::to_string(std::random_device()()) + ".safetensors";
    save_gpt(path, model, heads, vocabulary, *GetParam());
  }
  ~Checkpoint() override {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }

  std::mt19937_64 rng{11};
  SavableGpt model{Shape{4, context, 2, channels, heads}, rng};
  const Vocabulary vocabulary{U"\nγ\"\xDCFF"};
  std::filesystem::path path = std::filesystem::temp_directory_path() / "tokennorm_gpt_";
};

INSTANTIATE_TEST_SUITE_P(Families, Checkpoint,
                         ::testing::Values(&tokennorm::families::gpt2,
                                           &tokennorm::families::llms_from_scratch),
                         [](const auto& family) { return std::string(family.param->name); });

TEST_P(Checkpoint, ComesBackWithTheSameBits) {
  const Safetensors file = Safetensors::open(path);
  ASSERT_TRUE(has_gpt(file));
  EXPECT_EQ(&tokennorm::detect_family(file.names()), GetParam());
  SavedGpt saved = load_gpt(file, *GetParam());
  EXPECT_EQ(saved.heads, heads);
  EXPECT_EQ(saved.vocabulary.characters(), vocabulary.characters());

  std::vector<Tokens> expected;
  model.visit_parameters(
      [&](const std::string&, auto& value, auto&) { expected.push_back(value); });
  auto next = expected.begin();
  saved.model.visit_parameters([&](const std::string& name, auto& value, auto&) {
    EXPECT_TRUE(Tokens(value) == *next++) << name;
  });
  EXPECT_EQ(next, expected.end());
  const std::vector<int> ids = {3, 1, 0, 2, 1};
  EXPECT_TRUE(saved.model(ids) == model(ids));
}

TEST_P(Checkpoint, OtherFamilysNamesAreNotThere) {
  const FamilyRow& other = GetParam() == &tokennorm::families::gpt2
                               ? tokennorm::families::llms_from_scratch
                               : tokennorm::families::gpt2;
  const Safetensors file = Safetensors::open(path);
  EXPECT_THROW(load_gpt(file, other), std::runtime_error);
  EXPECT_THROW(load_gpt(file, tokennorm::families::bert), std::invalid_argument);
}

/// y = attention's first product of the second block, as the family's own code computes it.
TEST_P(Checkpoint, HoldsTheProductsInTheFamilysLayout) {
  const Safetensors file = Safetensors::open(path);
  Tokens weight, bias;
  model.visit_parameters([&](const std::string& name, auto& value, auto&) {
    if (name == "blocks.1.attention.input.weight") weight = value;
    if (name == "blocks.1.attention.input.bias") bias = value;
  });
  const auto is_shape = [&](const std::string& name, std::vector<Index> shape) {
    EXPECT_EQ(file.shape(name), shape) << name;
  };
  if (GetParam() == &tokennorm::families::gpt2) {  // Conv1D: x·W, [Q K V] side by side
    is_shape("h.1.attn.c_attn.weight", {channels, 3 * channels});
    is_shape("h.1.attn.c_attn.bias", {3 * channels});
    is_shape("h.0.mlp.c_proj.weight", {4 * channels, channels});
    is_shape("lm_head.weight", {4, channels});
    EXPECT_TRUE(file.matrix<float>("h.1.attn.c_attn.weight") == weight);
    EXPECT_TRUE(file.matrix<float>("h.1.attn.c_attn.bias") == bias);
  } else {  // Linear: x·Wᵀ, each of the three by itself
    const char* names[] = {"trf_blocks.1.att.W_query", "trf_blocks.1.att.W_key",
                           "trf_blocks.1.att.W_value"};
    for (Index part = 0; part < 3; ++part) {
      const std::string name = names[part];
      is_shape(name + ".bias", {channels});
      const Tokens there = file.matrix<float>(name + ".weight");
      ASSERT_EQ(there.rows(), channels);
      for (Index input = 0; input < channels; ++input) {
        for (Index output = 0; output < channels; ++output) {
          EXPECT_EQ(there(output, input), weight(input, part * channels + output)) << name;
        }
        EXPECT_EQ(file.matrix<float>(name + ".bias")(0, input), bias(0, part * channels + input));
      }
    }
    is_shape("trf_blocks.0.ff.layers.0.weight", {4 * channels, channels});
    is_shape("trf_blocks.0.ff.layers.2.weight", {channels, 4 * channels});
    is_shape("trf_blocks.0.norm1.shift", {channels});
    is_shape("tok_emb.weight", {4, channels});
    is_shape("pos_emb.weight", {context, channels});
    is_shape("out_head.weight", {4, channels});
  }
}

}  // namespace
}  // namespace gpt::test
