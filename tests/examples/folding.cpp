// SPDX-License-Identifier: MIT
// The model says which of its linear maps read and write: its norms fold, and its logits stay.
#include "02_train_gpt/gpt.hpp"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace gpt::test {
namespace {

using Tokens = TokenMatrix<double>;
using LayerNormGpt = Gpt<PreLNPlacement, tokennorm::LayerNorm<double>, double>;
using RMSNormGpt = Gpt<PreLNPlacement, tokennorm::RMSNorm<double>, double>;

const std::vector<int> ids = {3, 1, 4, 1, 5, 9, 2, 6};

/// With norms that do something: as after training.
template <class Model>
Model random_model() {
  std::mt19937_64 rng(17);
  Model model(Shape{.vocabulary = 11, .context = 8, .layers = 2, .channels = 24, .heads = 3}, rng);
  std::normal_distribution<double> normal(0, 0.5);
  model.visit_parameters([&](const std::string&, auto& value, auto&) {
    if (value.cols() == 1 || value.rows() == 1)
      for (Index i = 0; i < value.size(); ++i) value(i) += normal(rng);
  });
  return model;
}

double relative_change(const Tokens& from, const Tokens& to) {
  return (from - to).cwiseAbs().maxCoeff() / from.cwiseAbs().maxCoeff();
}

template <class Model>
class Folding : public ::testing::Test {};
using Models = ::testing::Types<LayerNormGpt, RMSNormGpt>;
TYPED_TEST_SUITE(Folding, Models);

TYPED_TEST(Folding, KeepsTheLogits) {
  auto model = random_model<TypeParam>();
  const Tokens logits = model(ids);
  tokennorm::fold_norms(model.stack(), model.head().map());
  model.stack().visit_parameters([](const std::string& name, auto&, auto&) {
    EXPECT_EQ(name.find("norm"), std::string::npos) << name;
  });
  EXPECT_LE(relative_change(logits, model(ids)), 1e-13);
}

TEST(CentringWriters, MakesRMSNormsThatKeepTheLogits) {
  auto model = random_model<LayerNormGpt>();
  const Tokens logits = model(ids);
  tokennorm::fold_norms(model.stack(), model.head().map());
  const RMSNormGpt::Stack centred = tokennorm::center_writers(
      model.stack(), model.embedding().token(), model.embedding().position());
  const Sequences sequences = {1, 8};
  const Tokens after =
      model.head()(centred(model.embedding()(ids, sequences), tokennorm::with(sequences)));
  EXPECT_LE(relative_change(logits, after), 1e-13);
}

}  // namespace
}  // namespace gpt::test
