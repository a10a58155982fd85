// SPDX-License-Identifier: MIT
// What the rows say: keys, norms, rules; and copies of them.
#include "tensor_file.hpp"
#include <tokennorm/checkpoint/families.hpp>

#include <gtest/gtest.h>

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

void expect_words(const std::string& message, const std::vector<std::string>& words) {
  for (const std::string& word : words) {
    EXPECT_NE(message.find(word), std::string::npos) << message << "\n  lacks: " << word;
  }
}

TEST(Families, HaveTheKeysOfTheirCheckpoints) {
  using Role = NormRole;
  EXPECT_EQ(families::gpt2.key(Role::attention, 3), "h.3.ln_1");
  EXPECT_EQ(families::gpt2.key(Role::feed_forward, 11), "h.11.ln_2");
  EXPECT_EQ(families::gpt2.key(Role::final), "ln_f");
  EXPECT_EQ(families::gpt2_original.key(Role::feed_forward, 2), "model/h2/ln_2");
  EXPECT_EQ(families::llms_from_scratch.key(Role::attention, 0), "trf_blocks.0.norm1");
  EXPECT_EQ(families::bert.key(Role::embedding), "embeddings.LayerNorm");
  EXPECT_EQ(families::bert.key(Role::attention, 4), "encoder.layer.4.attention.output.LayerNorm");
  EXPECT_EQ(families::bert.key(Role::feed_forward, 4), "encoder.layer.4.output.LayerNorm");
  EXPECT_EQ(families::bloom.key(Role::feed_forward, 1), "h.1.post_attention_layernorm");
  EXPECT_EQ(families::llama.key(Role::feed_forward, 1), "model.layers.1.post_attention_layernorm");
  EXPECT_EQ(families::gemma2.key(Role::attention_output, 1),
            "model.layers.1.post_attention_layernorm");
  EXPECT_EQ(families::gemma2.key(Role::feed_forward, 1),
            "model.layers.1.pre_feedforward_layernorm");
  EXPECT_EQ(families::olmo2.key(Role::attention_output, 1),
            "model.layers.1.post_attention_layernorm");
  EXPECT_EQ(families::olmo2.key(Role::final), "model.norm");
  EXPECT_EQ(families::t5.key(Role::feed_forward, 5), "encoder.block.5.layer.1.layer_norm");
  EXPECT_EQ(families::t5_decoder.key(Role::feed_forward, 5), "decoder.block.5.layer.2.layer_norm");
  EXPECT_EQ(families::transformer_lens.key(Role::final), "ln_final");
}

TEST(Families, HaveTheNormsOfTheirModels) {
  EXPECT_EQ(families::bert.epsilon, 1e-12);
  EXPECT_TRUE(families::bert.epsilon_varies) << "RoBERTa has the same names, and 1e-5";
  EXPECT_EQ(families::bert.placement, Placement::post_ln);
  EXPECT_EQ(families::gpt2.epsilon, 1e-5);
  EXPECT_EQ(families::gpt2.norm, NormKind::layer_norm);
  EXPECT_EQ(families::llama.norm, NormKind::rms_norm);
  EXPECT_EQ(families::llama.scale_offset, 0);
  EXPECT_EQ(families::gemma.scale_offset, 1);
  EXPECT_EQ(families::gemma2.scale_offset, 1);
  EXPECT_EQ(families::gemma2.placement, Placement::sandwich_ln);
  EXPECT_EQ(families::olmo2.placement, Placement::residual_post_norm);
  static_assert(families::t5.epsilon == 1e-6);
}

TEST(Families, AreFoundByName) {
  for (const FamilyRow& family : families::all) EXPECT_EQ(&find_family(family.name), &family);
  expect_words(message_of<std::invalid_argument>([] { find_family("gtp2"); }),
               {"no family is called gtp2", "llms_from_scratch, bloom"});
}

/// As a program has them that learns its prefix when it runs: nothing here outlives the call.
Family renamed(const std::string& prefix) {
  Family mine = families::llama;
  mine.name = std::string_view(prefix);
  mine.layer = prefix + "model.layers.{}.";
  mine.keys[static_cast<std::size_t>(NormRole::final)] = (prefix + "model.norm").c_str();
  return mine;
}

TEST(Families, OwnWhatACopyOfThemIsGiven) {
  Family copy = families::gpt2;
  {
    const Family mine = renamed("language_model.some_longer_prefix.");
    copy = mine;
    copy = std::as_const(copy);
    EXPECT_EQ(mine.key(NormRole::final), "language_model.some_longer_prefix.model.norm");
  }
  Family moved = std::move(copy);
  copy = families::gpt2;
  EXPECT_EQ(moved.name, "language_model.some_longer_prefix.");
  EXPECT_EQ(moved.key(NormRole::attention, 3),
            "language_model.some_longer_prefix.model.layers.3.input_layernorm");
  EXPECT_EQ(moved.key(NormRole::final), "language_model.some_longer_prefix.model.norm");
  EXPECT_EQ(copy.key(NormRole::attention, 3), "h.3.ln_1");
  moved.layer = "";
  EXPECT_TRUE(moved.layer.empty());
}

constexpr FamilyRow gpt2_with_another_end = [] {
  FamilyRow mine = families::gpt2;
  mine.keys[static_cast<std::size_t>(NormRole::final)] = "last_norm";
  return mine;
}();

TEST(Families, StandUnderAPrefix) {
  const Family talker = families::llama.under("talker.");
  EXPECT_EQ(talker.key(NormRole::attention, 3), "talker.model.layers.3.input_layernorm");
  EXPECT_EQ(talker.key(NormRole::final), "talker.model.norm");
  EXPECT_EQ(talker.key(NormRole::query, 1), "talker.model.layers.1.self_attn.q_norm");
  EXPECT_FALSE(talker.has(NormRole::embedding));
  EXPECT_EQ(talker.under("a.").key(NormRole::final), "a.talker.model.norm");
}

TEST(Families, HaveLayersThatAreOneOrDiffer) {
  EXPECT_EQ(families::albert.key(NormRole::attention, 0),
            families::albert.key(NormRole::attention, 7));
  EXPECT_FALSE(families::modernbert.has(NormRole::attention, 0));
  EXPECT_EQ(families::modernbert.key(NormRole::attention, 1), "model.layers.1.attn_norm");
  EXPECT_EQ(
      message_of<std::invalid_argument>([] { families::modernbert.key(NormRole::attention); }),
      "tokennorm: modernbert: the first layer has no attention norm");
}

TEST(Families, SayHowUpdatesAreAddedToTheStream) {
  using enum Placement;
  EXPECT_EQ(families::gptj.placement, parallel);
  EXPECT_EQ(families::gpt_neox.placement, parallel_two_norms);
  EXPECT_EQ(families::glm4.placement, sandwich_ln);
  EXPECT_EQ(families::minimax.placement, normed_stream);
  EXPECT_EQ(families::granite.residual_scale_key, "residual_multiplier");
  EXPECT_TRUE(families::dinov2.layer_scale);
  EXPECT_EQ(families::nemotron.scale_offset, 1);
  EXPECT_EQ(families::gemma4.scale_offset, 0) << "unlike Gemma 1 to 3";
  EXPECT_EQ(families::qwen3_next.scale_offset, 1);
  EXPECT_EQ(families::t5gemma.scale_offset, 1);
}

TEST(Families, MayBeWrittenByTheirUsers) {
  Family mine;
  mine.name = "mine";
  mine.norm = NormKind::rms_norm;
  mine.epsilon = 1e-6;
  mine.layer = "stages.{}.";
  mine.keys = {{NormRole::attention, "first"}, {NormRole::feed_forward, "second"}};
  EXPECT_EQ(mine.key(NormRole::feed_forward, 4), "stages.4.second");
  EXPECT_FALSE(mine.has(NormRole::final));
  EXPECT_EQ(mine.placement, Placement::pre_ln);
  EXPECT_EQ(mine.naming, Naming::weight_bias);
  mine.keys[NormRole::final] = "last";
  EXPECT_EQ(mine.keys[static_cast<std::size_t>(NormRole::final)], "last");
}

TEST(Families, AreConstants) {
  static_assert(families::llama.layer == "model.layers.{}.");
  static_assert(&find_family("llama") == &families::llama);
  static_assert(gpt2_with_another_end.own_key(NormRole::final) == "last_norm");
  EXPECT_EQ(gpt2_with_another_end.key(NormRole::attention, 2), "h.2.ln_1");
}

// A row refers to texts: made of a family that is gone it would read freed memory, so it is made by
// name only.
static_assert(!std::is_convertible_v<Family, FamilyRow>);
static_assert(std::is_constructible_v<FamilyRow, const Family&>);

TEST(Families, RefuseARoleThatTheyDoNotHave) {
  EXPECT_FALSE(families::bert.has(NormRole::final));
  EXPECT_EQ(message_of<std::invalid_argument>([] { families::bert.key(NormRole::final); }),
            "tokennorm: bert: the family has no final norm");
  EXPECT_THROW(families::olmo2.key(NormRole::attention, 0), std::invalid_argument);
  EXPECT_THROW(families::gpt2.key(NormRole::attention, -1), std::invalid_argument);
  Family no_number = families::gpt2;
  no_number.layer = "h.";
  expect_words(
      message_of<std::invalid_argument>([&] { no_number.key(NormRole::attention, 0); }),
      {"tokennorm: Family::key: what stands before the keys of a layer is h.; expected {} in it"});
  EXPECT_EQ(detail::in_layer(FamilyRow(no_number), "h.0.ln_1").layer, -1);
}

}  // namespace
}  // namespace tokennorm::test
