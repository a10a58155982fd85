// SPDX-License-Identifier: MIT
// The norm of every family, and norms of a kind that is chosen at run time where checkpoints and
// folding meet them.
#include "../norm/norm_kinds.hpp"
#include "tensor_file.hpp"
#include <tokennorm/checkpoint/center_weights.hpp>
#include <tokennorm/checkpoint/families.hpp>
#include <tokennorm/checkpoint/fold_norm.hpp>
#include <tokennorm/checkpoint/make_norm.hpp>
#include <tokennorm/checkpoint/names.hpp>

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

namespace tokennorm::test {
namespace {

constexpr Index channels = 6;

TEST(MakeNorm, IsTheNormOfEachFamily) {
  for (const FamilyRow& family : families::all) {
    SCOPED_TRACE(family.name);
    const AnyNorm<float> norm = make_norm(family, channels);
    EXPECT_EQ(norm.channels(), channels);
    EXPECT_EQ(norm.kind(), family.norm);
    EXPECT_EQ(norm.options().epsilon, family.epsilon);
    EXPECT_EQ(norm.options().scale_offset, family.scale_offset);
    EXPECT_TRUE(norm.options().scale);
    EXPECT_EQ(norm.options().shift, family.norm == NormKind::layer_norm && family.shift);
    EXPECT_EQ(norm.options().statistics_channels, 0);
  }
}

/// Not from the table: what the models' own code has.
TEST(MakeNorm, OfWellKnownFamilies) {
  const auto cohere = make_norm<float>(families::cohere, channels);
  EXPECT_EQ(cohere.kind(), NormKind::layer_norm);
  EXPECT_EQ(cohere.shift().size(), 0);
  EXPECT_EQ(make_norm<float>(families::cohere, channels, {.shift = true}).shift().size(), channels);
  const auto gpt2 = make_norm<float>(families::gpt2, channels);
  EXPECT_EQ(gpt2.kind(), NormKind::layer_norm);
  EXPECT_EQ(gpt2.options().epsilon, 1e-5);
  EXPECT_EQ(gpt2.shift().size(), channels);
  const auto gemma = make_norm<Eigen::bfloat16>(families::gemma, channels);
  EXPECT_EQ(gemma.kind(), NormKind::rms_norm);
  EXPECT_EQ(gemma.options().epsilon, 1e-6);
  EXPECT_EQ(gemma.options().scale_offset, 1);
  EXPECT_EQ(float(gemma.scale()(0)), 0);  // the factor is 1
  EXPECT_EQ(make_norm(families::bert, channels).options().epsilon, 1e-12);
}

TEST(MakeNorm, TakesTheEpsilonOfAModel) {
  EXPECT_EQ(make_norm(families::llama, channels).options().epsilon, 1e-6);
  EXPECT_EQ(make_norm(families::llama, channels, {.epsilon = 1e-5}).options().epsilon, 1e-5);
  Family mine = families::llama;  // as family_from_config gives it
  mine.epsilon = 5e-6;
  EXPECT_EQ(make_norm(mine, channels).options().epsilon, 5e-6);
}

TEST(MakeNorm, TakesOptionsInPlaceOfTheFamilys) {
  const auto without_shift = make_norm(families::gpt2, channels, {.shift = false});
  EXPECT_EQ(without_shift.shift().size(), 0);
  EXPECT_EQ(without_shift.options().epsilon, 1e-5);
  EXPECT_EQ(make_norm(families::gemma, channels, {.scale_offset = 0}).options().scale_offset, 0);
  EXPECT_EQ(make_norm(families::llama, channels, {.statistics_channels = 2})
                .options()
                .statistics_channels,
            2);
  EXPECT_EQ(message_of([] { make_norm(families::gpt2, 0); }),
            "tokennorm: LayerNorm: channels is 0; expected 1 or more");
}

TEST(AnyNormInACheckpoint, IsLoadedAndSaved) {
  TensorFile file, saved;
  file.add("h.0.ln_1.weight", {channels}, 10).add("h.0.ln_1.bias", {channels}, 20);
  file.add("model.norm.weight", {channels}, 30);
  auto layer = make_norm<float>(families::gpt2, channels);
  auto rms = make_norm<float>(families::llama, channels);
  load_norm(layer, file, "h.0.ln_1");
  load_norm(rms, file, "model.norm");
  EXPECT_EQ(layer.scale()(0), 10);
  EXPECT_EQ(layer.shift()(0), 20);
  EXPECT_EQ(rms.scale()(0), 30);
  save_norm(layer, saved, "ln", Naming::gamma_beta);
  save_norm(rms, saved, "rms", Naming::gamma_beta);
  EXPECT_EQ(saved.names(), (std::vector<std::string>{"ln.beta", "ln.gamma", "rms.gamma"}));
  const std::string message =
      message_of<std::runtime_error>([&] { load_norm(rms, file, "h.0.ln_1"); });
  EXPECT_EQ(message.find("tokennorm: RMSNorm(6): h.0.ln_1: there is a shift"), 0u) << message;
}

/// Whether a stack's norm is of the family, as load_norms asks.
std::string refusal(const AnyNorm<float>& norm, const Family& family) {
  return message_of<std::runtime_error>([&] {
    tokennorm::detail::check_kind({"Stack", channels}, family, NormRole::attention, 3, norm);
  });
}

TEST(AnyNormInACheckpoint, IsComparedWithTheFamily) {
  const std::string who = "tokennorm: Stack(6): attention_norm of layer 3 ";
  for (const FamilyRow& family : families::all)
    EXPECT_EQ(refusal(make_norm(family, channels), family), "nothing was thrown");
  EXPECT_EQ(refusal(make_norm(families::llama, channels), families::gpt2),
            who + "is an RMSNorm; expected a LayerNorm for gpt2");
  EXPECT_EQ(refusal(make_norm(families::gpt2, channels), families::llama),
            who + "is a LayerNorm; expected an RMSNorm for llama");
  EXPECT_EQ(
      refusal(make_norm(families::llama, channels, {.statistics_channels = 2}), families::llama),
      who + "has statistics_channels 2; expected 0 for llama");
  EXPECT_EQ(refusal(make_norm(families::gemma, channels, {.epsilon = 1e-5}), families::gemma)
                .find(who + "has epsilon 1e-05; expected 1e-06"),
            0u);
}

template <class Reader>
ExactMatrix reading(const AnyNorm<double>& norm, const TokenMatrix<double>& x,
                    const Reader& reader) {
  return exact(norm(x) * reader.weight.transpose()).rowwise() +
         exact_vector(reader.bias).transpose();
}

TEST(AnyNormInACheckpoint, IsFoldedAndItsReaderCentred) {
  const auto x = random_normal<TokenMatrix<double>>({5, channels}, Seed{1}, 1);
  for (const NormKind kind : {NormKind::layer_norm, NormKind::rms_norm}) {
    AnyNorm<double> norm(kind, channels, {.shift = true, .scale_offset = 1});
    norm.scale() = random_vector<double>(channels, Seed{2});
    norm.shift() = random_vector<double>(channels, Seed{3});
    Eigen::MatrixXd weight = random_normal<Eigen::MatrixXd>({4, channels}, Seed{4});
    Eigen::VectorXd bias = random_vector<double>(4, Seed{5});
    OutIn reader{weight, bias};
    const ExactMatrix before = reading(norm, x, reader);
    fold_norm(norm, reader);
    EXPECT_EQ(norm.kind(), kind);
    EXPECT_FALSE(norm.options().scale);
    EXPECT_FALSE(norm.options().shift);
    EXPECT_EQ(norm.options().scale_offset, 0);
    EXPECT_LE((reading(norm, x, reader) - before).cwiseAbs().maxCoeff(), 1e-14L);
    if (kind == NormKind::layer_norm) {
      center_reader(norm, reader);
      EXPECT_LE(weight.rowwise().mean().cwiseAbs().maxCoeff(), 1e-15);
      EXPECT_LE((reading(norm, x, reader) - before).cwiseAbs().maxCoeff(), 1e-14L);
    } else {
      EXPECT_EQ(message_of([&] { center_reader(norm, reader); }),
                "tokennorm: RMSNorm(6): its result has a mean, which the reader's mean weight "
                "multiplies; only what reads a LayerNorm can be centred");
    }
  }
}

}  // namespace
}  // namespace tokennorm::test
