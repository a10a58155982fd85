// SPDX-License-Identifier: MIT
// One norm from and to a checkpoint: every naming, and what is refused in which words.
#include "tensor_file.hpp"
#include <tokennorm/checkpoint/names.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

using ::testing::Test;
using Error = std::runtime_error;
constexpr Index channels = 3;

Eigen::VectorXf values(float first) { return Eigen::Vector3f(first, first + 1, first + 2); }

LayerNorm<float> untouched() {
  LayerNorm<float> norm(channels);
  norm.scale() = values(-7);
  norm.shift() = values(-4);
  return norm;
}

/// Refused with all of these words, and the norm is as it was.
template <class Norm>
void expect_refused(const TensorFile& file, const std::string& prefix, Norm norm,
                    const std::vector<std::string>& words) {
  const auto scale = norm.scale(), shift = norm.shift();
  const std::string message = message_of<Error>([&] { load_norm(norm, file, prefix); });
  for (const std::string& word : words) {
    EXPECT_NE(message.find(word), std::string::npos) << message << "\n  lacks: " << word;
  }
  EXPECT_EQ(norm.scale(), scale);
  EXPECT_EQ(norm.shift(), shift);
}

TEST(LoadNorm, TakesWhicheverNamingIsThere) {
  for (const auto& [scale, shift] :
       {std::pair("scale", "shift"), std::pair("weight", "bias"), std::pair("gamma", "beta"),
        std::pair("g", "b"), std::pair("w", "b"), std::pair("scale", "bias"),
        std::pair("scale", "offset"), std::pair("gamma:0", "beta:0"),
        std::pair("layer_norm_scale", "layer_norm_bias"), std::pair("w_0", "b_0")}) {
    SCOPED_TRACE(scale);
    TensorFile file;
    file.add(std::string("h.0.ln_1.") + scale, {channels}, 10);
    file.add(std::string("h.0.ln_1.") + shift, {channels}, 20);
    LayerNorm<float> norm = untouched();
    load_norm(norm, file, "h.0.ln_1");
    EXPECT_EQ(norm.scale(), values(10));
    EXPECT_EQ(norm.shift(), values(20));
    RMSNorm<float> without_shift(channels);
    expect_refused(file, "h.0.ln_1", without_shift, {"shift = false", shift});
    file.remove(std::string("h.0.ln_1.") + shift);
    load_norm(without_shift, file, "h.0.ln_1");
    EXPECT_EQ(without_shift.scale(), values(10));
    EXPECT_EQ(without_shift.shift().size(), 0);
  }
}

TEST(LoadNorm, TakesARowAndEveryScalar) {
  TensorFile file;
  file.add("norm.weight", {1, channels}, 1).add("norm.bias", {1, 1, channels}, 5);
  LayerNorm<Eigen::half> half(channels);
  LayerNorm<Eigen::bfloat16> brain(channels);
  LayerNorm<double> wide(channels);
  LayerNorm<long double> widest(channels);
  load_norm(half, file, "norm");
  load_norm(brain, file, "norm");
  load_norm(wide, file, "norm");
  load_norm(widest, file, "norm");
  EXPECT_EQ(half.scale().cast<float>(), values(1));
  EXPECT_EQ(brain.shift().cast<float>(), values(5));
  EXPECT_EQ(wide.shift().cast<float>(), values(5));
  EXPECT_EQ(widest.scale().cast<float>(), values(1));
}

TEST(LoadNorm, RoundsOnce) {
  TensorFile file;
  file.add("half.weight", {1}, 1 + 0x1p-11 + 0x1p-40)
      .add("brain.weight", {1}, 1 + 0x1p-8 + 0x1p-40);
  RMSNorm<Eigen::half> half(1);
  RMSNorm<Eigen::bfloat16> brain(1);
  load_norm(half, file, "half");
  load_norm(brain, file, "brain");
  EXPECT_EQ(static_cast<float>(half.scale()(0)), 1 + 0x1p-10f) << "not to the even 1";
  EXPECT_EQ(static_cast<float>(brain.scale()(0)), 1 + 0x1p-7f);
}

TEST(LoadNorm, RefusesAValueBeyondItsScalar) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const auto loaded = [](auto norm, double value) {
    TensorFile file;
    file.add("n.weight", {1}, 1).add("n.bias", {1}, value);
    load_norm(norm, file, "n");
    return static_cast<double>(norm.shift()(0));
  };
  const LayerNorm<Eigen::half> half(1);
  const LayerNorm<Eigen::bfloat16> brain(1);
  const LayerNorm<float> single(1);
  EXPECT_EQ(loaded(half, 65520 - 0x1p-30), 65504);
  EXPECT_EQ(loaded(brain, -0x1.ffp127 * (1 - 0x1p-53)), -0x1.fep127);
  EXPECT_EQ(loaded(single, 0x1.ffffffp127 * (1 - 0x1p-53)), 0x1.fffffep127);
  EXPECT_EQ(loaded(half, -infinity), -infinity);
  EXPECT_TRUE(std::isnan(loaded(half, std::nan(""))));
  const auto refusal = [&](const auto& norm, double value) {
    return message_of<Error>([&] { loaded(norm, value); });
  };
  EXPECT_EQ(refusal(half, -65520),
            "tokennorm: LayerNorm(1): tensor \"n.bias\": value 0 is -65520; the largest half is "
            "65504");
  EXPECT_EQ(refusal(brain, 0x1.ffp127),
            "tokennorm: LayerNorm(1): tensor \"n.bias\": value 0 is 3.39618e+38; the largest "
            "bfloat16 is 3.38953e+38");
  EXPECT_EQ(refusal(single, 1e300),
            "tokennorm: LayerNorm(1): tensor \"n.bias\": value 0 is 1e+300; the largest float is "
            "3.40282e+38");
  EXPECT_EQ(loaded(LayerNorm<double>(1), 1e300), 1e300);

  TensorFile file;
  file.add("n.weight", {channels}, 65519).add("n.bias", {channels}, 0);
  expect_refused(file, "n", LayerNorm<Eigen::half>(channels), {"value 1 is 65520"});
}

TEST(LoadNorm, TakesANormThatWasSavedAlone) {
  TensorFile file;
  file.add("weight", {channels}, 1).add("bias", {channels}, 5);
  LayerNorm<float> norm = untouched();
  load_norm(norm, file, "");
  EXPECT_EQ(norm.scale(), values(1));
  EXPECT_EQ(norm.shift(), values(5));
  TensorFile saved;
  save_norm(norm, saved, "", Naming::weight_bias);
  EXPECT_EQ(saved.names(), file.names());
  file.remove("bias");
  expect_refused(file, "", norm, {"LayerNorm(3): the shift is missing; found weight [3];"});
}

TEST(LoadNorm, ShowsNamesWithoutControlCharactersAndNotWithoutEnd) {
  TensorFile file;
  file.add("n.\x1b[31m" + std::string(2000, 'x'), {channels}, 1);
  RMSNorm<float> norm(channels);
  const std::string message = message_of<Error>([&] { load_norm(norm, file, "n"); });
  EXPECT_NE(message.find("found n.\\x1b[31mxxx"), std::string::npos) << message;
  EXPECT_EQ(message.find('\x1b'), std::string::npos);
  EXPECT_LT(message.size(), 500U);
}

TEST(LoadNorm, TakesValuesAsTheyAreWhateverTheOffset) {
  TensorFile file;
  file.add("norm.weight", {channels}, 1);
  RMSNorm<float> norm(channels, {.scale_offset = 1});
  load_norm(norm, file, "norm");
  EXPECT_EQ(norm.scale(), values(1));
}

TEST(LoadNorm, TakesWhatANormHasAndNoMore) {
  TensorFile file;
  file.add("scale_only.w", {channels}, 1).add("shift_only.b", {channels}, 2);
  LayerNorm<float> scale_only(channels, {.shift = false}), shift_only(channels, {.scale = false});
  LayerNorm<float> neither(channels, {.scale = false, .shift = false});
  load_norm(scale_only, file, "scale_only");
  load_norm(shift_only, file, "shift_only");
  load_norm(neither, file, "nothing");
  EXPECT_EQ(scale_only.scale(), values(1));
  EXPECT_EQ(shift_only.shift(), values(2));
  expect_refused(file, "scale_only", shift_only, {"there is a scale", "scale = false"});
  expect_refused(file, "scale_only", neither, {"looked for neither scale nor shift"});
}

TEST(LoadNorm, FindsItWithAndWithoutAnOptionalPrefix) {
  for (const auto& [there, asked] :
       {std::pair("transformer.h.0.ln_1", "h.0.ln_1"), std::pair("norm", "model.norm"),
        std::pair("bert.embeddings.LayerNorm", "embeddings.LayerNorm"),
        std::pair("model.norm", "bert.norm"),
        std::pair("roberta.embeddings.LayerNorm", "embeddings.LayerNorm"),
        std::pair("electra.embeddings.LayerNorm", "embeddings.LayerNorm"),
        std::pair("_orig_mod.transformer.h.0.ln_1", "h.0.ln_1"),
        std::pair("_orig_mod.module.norm", "model.norm"), std::pair("norm", "module.model.norm"),
        std::pair("model.language_model.norm", "model.norm"),
        std::pair("language_model.model.norm", "model.norm")}) {
    TensorFile file;
    file.add(std::string(there) + ".weight", {channels}, 1);
    file.add(std::string(there) + ".bias", {channels}, 2);
    LayerNorm<float> norm = untouched();
    load_norm(norm, file, asked);
    EXPECT_EQ(norm.shift(), values(2)) << asked;
  }
  TensorFile two;
  for (const std::string prefix : {"transformer.h.0.ln_1", "model.h.0.ln_1"}) {
    two.add(prefix + ".weight", {channels}, 1).add(prefix + ".bias", {channels}, 2);
  }
  expect_refused(two, "h.0.ln_1", untouched(), {"model.h.0.ln_1 and transformer.h.0.ln_1"});
  LayerNorm<float> norm = untouched();
  two.add("h.0.ln_1.weight", {channels}, 3).add("h.0.ln_1.bias", {channels}, 4);
  load_norm(norm, two, "h.0.ln_1");
  EXPECT_EQ(norm.scale(), values(3)) << "the name as it was given comes first";
}

TEST(LoadNorm, ReadsNamesWithSlashes) {
  TensorFile file;
  file.add("model/h0/ln_1/g", {channels}, 1).add("model/h0/ln_1/b", {channels}, 2);
  LayerNorm<float> norm = untouched();
  load_norm(norm, file, "model/h0/ln_1");
  EXPECT_EQ(norm.scale(), values(1));
  EXPECT_EQ(norm.shift(), values(2));
}

TEST(LoadNorm, RefusesWhatIsMissing) {
  TensorFile file;
  file.add("h.0.ln_1.weight", {channels}, 1).add("h.0.ln_11.bias", {channels}, 1);
  EXPECT_EQ(message_of<Error>([&] {
              LayerNorm<float> norm = untouched();
              load_norm(norm, file, "h.0.ln_1");
            }),
            "tokennorm: LayerNorm(3): h.0.ln_1: the shift is missing; found h.0.ln_1.weight [3]; "
            "looked for a scale and a shift of 3 values, called as in scale/shift, weight/bias, "
            "gamma/beta, g/b, w/b, scale/bias, scale/offset, layer_norm_scale/layer_norm_bias, "
            "w_0/b_0");
  expect_refused(file, "h.0.ln_11", untouched(), {"the scale is missing", "h.0.ln_11.bias [3]"});
  expect_refused(file, "h.1.ln_1", untouched(), {"the scale is missing", "nothing under it"});
}

TEST(LoadNorm, RefusesAnotherShape) {
  for (const std::vector<Index>& shape :
       {std::vector<Index>{4}, {}, {3, 1}, {1, 3, 1}, {0}, {3, 3}, {1, 4}, {2, 1, 3}}) {
    TensorFile file;
    file.add("norm.weight", {channels}, 1).add("norm.bias", shape, 1);
    expect_refused(file, "norm", untouched(), {"the shift is [", "expected [3]"});
  }
}

TEST(LoadNorm, RefusesTwoNamingsAtOnce) {
  for (const std::vector<std::string>& names :
       {std::vector<std::string>{"weight", "bias", "gamma", "beta"},
        {"weight", "bias", "scale"},
        {"weight", "beta"},
        {"w", "beta"},
        {"g", "w", "b"},
        {"gamma", "beta:0"},
        {"gamma", "beta", "gamma:0"},
        {"scale", "shift", "offset"},
        {"scale", "shift", "b"}}) {
    TensorFile file;
    for (const std::string& name : names) file.add("norm." + name, {channels}, 1);
    expect_refused(file, "norm", untouched(), {"two namings at once", "norm." + names.back()});
  }
}

TEST(LoadNorm, RefusesAnotherFormula) {
  TensorFile file;
  file.add("norm.a_2", {channels}, 1).add("norm.b_2", {channels}, 1);
  expect_refused(file, "norm", untouched(), {"a_2 and b_2", "outside the root"});
}

TEST(LoadNorm, LeavesTheNormAloneWhereReadingFails) {
  TensorFile file;
  file.add("norm.weight", {channels}, 1).add("norm.bias", {channels}, 2);
  file.unreadable = "norm.bias";
  expect_refused(file, "norm", untouched(), {"norm.bias cannot be read"});
}

TEST(SaveNorm, WritesUnderTheNamingAsked) {
  const LayerNorm<float> norm = untouched();
  const auto names_of = [&](Naming naming, const std::string& prefix) {
    TensorFile file;
    save_norm(norm, file, prefix, naming);
    EXPECT_EQ(file.names().size(), 2U);
    LayerNorm<float> back(channels);
    load_norm(back, file, prefix);
    EXPECT_EQ(back.scale(), norm.scale());
    EXPECT_EQ(back.shift(), norm.shift());
    return file.names();
  };
  using Names = std::vector<std::string>;  // in the order of the alphabet
  EXPECT_EQ(names_of(Naming::scale_shift, "a"), (Names{"a.scale", "a.shift"}));
  EXPECT_EQ(names_of(Naming::weight_bias, "a"), (Names{"a.bias", "a.weight"}));
  EXPECT_EQ(names_of(Naming::gamma_beta, "a"), (Names{"a.beta", "a.gamma"}));
  EXPECT_EQ(names_of(Naming::g_b, "a/b"), (Names{"a/b/b", "a/b/g"}));
  EXPECT_EQ(names_of(Naming::w_b, "a"), (Names{"a.b", "a.w"}));
}

TEST(SaveNorm, WritesWhatTheNormHas) {
  TensorFile file;
  save_norm(RMSNorm<double>(channels), file, "a", Naming::weight_bias);
  save_norm(LayerNorm<float>(channels, {.scale = false, .shift = false}), file, "b", Naming::w_b);
  EXPECT_EQ(file.names(), std::vector<std::string>{"a.weight"});
  EXPECT_EQ(file.shape("a.weight"), std::vector<Index>{channels});
}

}  // namespace
}  // namespace tokennorm::test
