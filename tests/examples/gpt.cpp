// SPDX-License-Identifier: MIT
// The whole model, in every placement and with both norms, and as a Llama: gradients, causality,
// training, and reading on by a session.
#include "02_train_gpt/gpt.hpp"

#include "02_train_gpt/cross_entropy.hpp"
#include "02_train_gpt/trainer.hpp"
#include "gradient_check.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace gpt::test {
namespace {

struct LayerKind {
  template <class Scalar>
  using Norm = tokennorm::LayerNorm<Scalar>;
};
struct RMSKind {
  template <class Scalar>
  using Norm = tokennorm::RMSNorm<Scalar>;
};

template <class Placement, class Kind>
struct Case {
  using PlacementType = Placement;
  using KindType = Kind;
  template <class Scalar>
  using Model = Gpt<Placement, typename Kind::template Norm<Scalar>, Scalar>;
};

using Cases = ::testing::Types<Case<PreLNPlacement, LayerKind>, Case<PreLNPlacement, RMSKind>,
                               Case<PostLNPlacement, LayerKind>, Case<PostLNPlacement, RMSKind>,
                               Case<SandwichLNPlacement, LayerKind>,
                               Case<SandwichLNPlacement, RMSKind>, Case<LlamaPlacement, RMSKind>>;
using FloatCases =
    ::testing::Types<Case<PreLNPlacement, LayerKind>, Case<PostLNPlacement, LayerKind>,
                     Case<SandwichLNPlacement, RMSKind>, Case<LlamaPlacement, RMSKind>>;

template <class Scalar, class Case>
using ModelOf = typename Case::template Model<Scalar>;

template <class Placement>
std::string placement_name() {
  if (std::is_same_v<Placement, LlamaPlacement>) return "Llama";
  if (std::is_same_v<Placement, PreLNPlacement>) return "Pre";
  return std::is_same_v<Placement, PostLNPlacement> ? "Post" : "Sandwich";
}
struct CaseName {
  template <class Case>
  static std::string GetName(int) {
    return placement_name<typename Case::PlacementType>() +
           (std::is_same_v<typename Case::KindType, LayerKind> ? "LayerNorm" : "RMSNorm");
  }
};

std::vector<int> random_ids(std::size_t count, Index vocabulary, Seed seed) {
  Random random(seed);
  std::vector<int> ids(count);
  std::generate(ids.begin(), ids.end(), [&] { return static_cast<int>(random.below(vocabulary)); });
  return ids;
}

template <class>
class WholeGpt : public ::testing::Test {};
TYPED_TEST_SUITE(WholeGpt, Cases, CaseName);

template <class>
class FloatGpt : public ::testing::Test {};
TYPED_TEST_SUITE(FloatGpt, FloatCases, CaseName);

TYPED_TEST(WholeGpt, EveryGradientMatchesCentralDifferences) {
  const Shape shape{.vocabulary = 5, .context = 3, .layers = 2, .channels = 8, .heads = 2};
  std::mt19937_64 rng(1);
  ModelOf<double, TypeParam> model(shape, rng);
  shake(model, Seed{200});
  const auto inputs = random_ids(6, shape.vocabulary, Seed{201});
  const auto targets = random_ids(6, shape.vocabulary, Seed{202});

  std::vector<MicroBatch<double>> micro_batches(1);
  model.zero_gradients();
  add_gradients(model, {inputs, targets}, micro_batches);
  const Index compared = expect_parameter_gradients(
      model, 1e-9, [&] { return cross_entropy<double>(model(inputs), targets); });
  EXPECT_EQ(compared, count_parameters(model));
}

TYPED_TEST(WholeGpt, ForwardIsInference) {
  const Shape shape{.vocabulary = 7, .context = 8, .layers = 3, .channels = 12, .heads = 3};
  std::mt19937_64 rng(2);
  ModelOf<double, TypeParam> model(shape, rng);
  shake(model, Seed{210});
  const auto ids = random_ids(16, shape.vocabulary, Seed{211});
  const TokenMatrix<double> inference = model(ids);
  MicroBatch<double> training;
  EXPECT_TRUE(model.forward(ids, training.record, training.batch).isApprox(inference, 1e-13));
}

/// The loss of random characters, and every gradient of it.
template <class Scalar, class Model>
std::pair<double, std::vector<TokenMatrix<Scalar>>> loss_and_gradients(Model& model,
                                                                       std::size_t micro_batches) {
  constexpr std::size_t sequences = 8;
  const auto count = sequences * static_cast<std::size_t>(model.context());
  const Index vocabulary = model.embedding().token().rows();
  const Excerpts excerpts{random_ids(count, vocabulary, Seed{260}),
                          random_ids(count, vocabulary, Seed{261})};
  std::vector<MicroBatch<Scalar>> parts(micro_batches);
  double loss = 0;
  for (int step = 0; step < 2; ++step) {  // the second in the memory of the first
    model.zero_gradients();
    loss = add_gradients(model, excerpts, parts);
  }
  std::vector<TokenMatrix<Scalar>> gradients;
  model.visit_parameters(
      [&](const std::string&, auto&, auto& gradient) { gradients.push_back(gradient); });
  return {loss, gradients};
}

template <class Scalar, class Model>
void expect_micro_batches_add_up(double tolerance) {
  std::mt19937_64 rng(11);
  const Shape shape{.vocabulary = 11, .context = 9, .layers = 2, .channels = 24, .heads = 3};
  Model model(shape, rng);
  shake(model, Seed{262}, 0.1);
  const auto [loss, gradients] = loss_and_gradients<Scalar>(model, 1);
  for (const std::size_t micro_batches : {2U, 4U, 8U}) {
    SCOPED_TRACE(::testing::Message() << micro_batches << " micro-batches");
    const auto [divided_loss, divided] = loss_and_gradients<Scalar>(model, micro_batches);
    EXPECT_NEAR(divided_loss, loss, tolerance * loss);
    for (std::size_t i = 0; i < gradients.size(); ++i) {
      EXPECT_LE(static_cast<double>((divided[i] - gradients[i]).norm()),
                tolerance * static_cast<double>(gradients[i].norm()))
          << "parameter " << i;
    }
  }
}

TYPED_TEST(WholeGpt, GradientsOfMicroBatchesAddUp) {
  expect_micro_batches_add_up<double, ModelOf<double, TypeParam>>(1e-13);
}

TYPED_TEST(FloatGpt, GradientsOfMicroBatchesAddUp) {
  expect_micro_batches_add_up<float, ModelOf<float, TypeParam>>(1e-5);
}

/// What sessions say of each character is what the model says that reads the text at once.
template <class Scalar, class Model>
void expect_sessions_read_on(double tolerance) {
  std::mt19937_64 rng(12);
  const Shape shape{.vocabulary = 11, .context = 19, .layers = 3, .channels = 24, .heads = 3};
  Model changing(shape, rng);
  shake(changing, Seed{270}, 0.1);
  const Model& model = changing;
  const auto ids = random_ids(19, shape.vocabulary, Seed{271});
  const TokenMatrix<Scalar> whole = model(ids);

  typename Model::Workspace workspace;
  for (const std::size_t prompt : {1U, 7U, 18U, 19U}) {
    SCOPED_TRACE(::testing::Message() << "a prompt of " << prompt);
    auto session = model.new_session(), other = model.new_session();
    const auto read = [&](std::size_t first, std::size_t count) {
      const auto unread = std::span(ids).subspan(first, count);
      const TokenMatrix<Scalar> logits = model(unread, workspace, session);
      ASSERT_EQ(logits.rows(), static_cast<Index>(count));
      const auto expected = whole.middleRows(static_cast<Index>(first), logits.rows());
      EXPECT_LE(static_cast<double>((logits - expected).cwiseAbs().maxCoeff()), tolerance)
          << count << " characters from " << first;
      other.position %= model.context();  // one that reads something else between
      model(std::span(ids).last(1), workspace, other);
    };
    read(0, prompt);
    for (std::size_t next = prompt; next < ids.size(); ++next) read(next, 1);
    EXPECT_EQ(session.position, model.context());
    EXPECT_THROW(model(std::span(ids).first(1), workspace, session), std::invalid_argument);

    session.position = 0;  // it starts again
    read(0, prompt);
  }
}

TYPED_TEST(WholeGpt, SessionsReadOn) {
  expect_sessions_read_on<double, ModelOf<double, TypeParam>>(1e-12);
}

TYPED_TEST(FloatGpt, SessionsReadOn) {
  expect_sessions_read_on<float, ModelOf<float, TypeParam>>(1e-5);
}

TYPED_TEST(WholeGpt, GeneratesWhatItWouldWithoutASession) {
  for (const Index context : {1, 2, 3, 8}) {
    for (const std::size_t prompt_length : {1U, 3U, 8U, 11U}) {
      SCOPED_TRACE(::testing::Message()
                   << "a context of " << context << ", a prompt of " << prompt_length);
      std::mt19937_64 rng(13);
      ModelOf<double, TypeParam> model(
          Shape{.vocabulary = 7, .context = context, .layers = 2, .channels = 8, .heads = 2}, rng);
      const auto prompt = random_ids(prompt_length, 7, Seed{280});
      auto draws = rng;

      const auto limit = static_cast<std::size_t>(context);
      std::vector<int> expected, text = prompt;
      std::size_t seen = std::min(prompt.size(), limit);
      for (int i = 0; i < 30; ++i) {
        const TokenMatrix<double> logits = model(std::span(text).last(seen));
        const Eigen::ArrayXd weights = (logits.bottomRows(1).transpose().array() / 0.5).exp();
        std::discrete_distribution<int> next(weights.begin(), weights.end());
        expected.push_back(next(draws));
        text.push_back(expected.back());
        seen = seen == limit ? (limit + 1) / 2 : seen + 1;
      }
      EXPECT_EQ(generate(model, prompt, 30, 0.5, rng), expected);
    }
  }
}

/// Changing one character leaves every logit before it, and every other sequence, as it was: the
/// same bits.
template <class Scalar, class Model>
void expect_causal(const Shape& shape, Model& model) {
  constexpr Index sequences = 2;
  const auto ids =
      random_ids(static_cast<std::size_t>(sequences * shape.context), shape.vocabulary, Seed{220});
  MicroBatch<Scalar> training;
  const TokenMatrix<Scalar> before = model(ids);
  const TokenMatrix<Scalar> before_in_training =
      model.forward(ids, training.record, training.batch);
  for (Index changed = 0; changed < sequences * shape.context; ++changed) {
    SCOPED_TRACE(::testing::Message() << "character " << changed << " changed");
    auto other = ids;
    auto& id = other[static_cast<std::size_t>(changed)];
    id = (id + 1) % static_cast<int>(shape.vocabulary);
    const TokenMatrix<Scalar> after = model(other);
    const TokenMatrix<Scalar> after_in_training =
        model.forward(other, training.record, training.batch);
    const Index end = (changed / shape.context + 1) * shape.context;  // of its sequence
    for (Index t = 0; t < before.rows(); ++t) {
      if (t < changed || t >= end) {
        ASSERT_TRUE(before.row(t) == after.row(t)) << "logits of character " << t;
        ASSERT_TRUE(before_in_training.row(t) == after_in_training.row(t))
            << "logits of character " << t << " in training";
      } else {
        ASSERT_FALSE(before.row(t) == after.row(t)) << "character " << t << " does not see it";
      }
    }
  }
}

const Shape causality_shape{
    .vocabulary = 11, .context = 19, .layers = 2, .channels = 24, .heads = 3};

TYPED_TEST(WholeGpt, StaysCausal) {
  std::mt19937_64 rng(3);
  ModelOf<double, TypeParam> model(causality_shape, rng);
  shake(model, Seed{230});
  expect_causal<double>(causality_shape, model);
}

TYPED_TEST(FloatGpt, StaysCausal) {
  std::mt19937_64 rng(3);
  ModelOf<float, TypeParam> model(causality_shape, rng);
  shake(model, Seed{231});
  expect_causal<float>(causality_shape, model);
}

TYPED_TEST(WholeGpt, NamesEveryParameterOnce) {
  const Shape shape{.vocabulary = 5, .context = 4, .layers = 2, .channels = 4, .heads = 1};
  std::mt19937_64 rng(4);
  ModelOf<double, TypeParam> model(shape, rng);
  std::set<std::string> names;
  model.visit_parameters([&](const std::string& name, auto& value, auto& gradient) {
    EXPECT_TRUE(names.insert(name).second) << name << " is visited twice";
    EXPECT_EQ(value.size(), gradient.size()) << name;
    EXPECT_TRUE(gradient.isZero(0)) << name << " does not start with a gradient of zero";
  });
  for (const auto* name : {"embedding.token", "blocks.0.attention_norm.scale",
                           "blocks.1.attention.input.weight", "head.weight"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
  constexpr bool is_llama = TypeParam::PlacementType::is_llama;  // which has neither
  for (const auto* name : {"embedding.position", "blocks.1.feed_forward.output.bias"}) {
    EXPECT_NE(names.contains(name), is_llama) << name;
  }
}

TYPED_TEST(FloatGpt, LearnsAShortText) {
  std::u32string text;
  for (int i = 0; i < 60; ++i) text += U"the norm of the layer ";
  const Corpus corpus = make_corpus({text});
  const Shape shape{.vocabulary = corpus.vocabulary.size(),
                    .context = 16,
                    .layers = 2,
                    .channels = 16,
                    .heads = 2};
  std::mt19937_64 rng(5);
  ModelOf<float, TypeParam> model(shape, rng);
  Index reports = 0;
  const History history =
      train(model, corpus, {.steps = 150, .batch = 8, .learning_rate = 1e-2, .seed = 6},
            [&](const Progress& progress) { EXPECT_EQ(progress.step, ++reports); });
  EXPECT_EQ(reports, 150);
  EXPECT_LT(mean_loss(model, corpus.validation), 0.3);
  EXPECT_EQ(history.curve.back().step, 150);
  EXPECT_GT(history.curve.front().training_loss, 1.5);
  for (const auto& layer : history.gradient_norms) {
    EXPECT_GT(layer.first_step, 0) << layer.layer;
    EXPECT_GT(layer.mean, 0) << layer.layer;
  }

  auto draw = rng;
  const auto sample = generate(model, corpus.vocabulary.encode(U"the "), 40, 0.1, draw);
  EXPECT_EQ(sample.size(), 40U);
  EXPECT_NE(corpus.vocabulary.decode(sample).find("the layer the norm of"), std::string::npos)
      << corpus.vocabulary.decode(sample);
}

TEST(Placements, StartFromTheSameWeights) {
  const Shape shape{.vocabulary = 5, .context = 4, .layers = 2, .channels = 4, .heads = 1};
  const auto weights = [&]<class Placement>(Placement) {
    std::mt19937_64 rng(7);
    Gpt<Placement, tokennorm::LayerNorm<float>, float> model(shape, rng);
    std::vector<std::pair<std::string, TokenMatrix<float>>> found;
    model.visit_parameters([&](const std::string& name, auto& value, auto&) {
      if (name.find("norm") == std::string::npos) found.emplace_back(name, value);
    });
    std::sort(found.begin(), found.end(), [](auto& a, auto& b) { return a.first < b.first; });
    return found;
  };
  EXPECT_EQ(weights(PreLNPlacement{}), weights(PostLNPlacement{}));
  EXPECT_EQ(weights(PreLNPlacement{}), weights(SandwichLNPlacement{}));
}

TEST(Embedding, MatchesCentralDifferences) {
  std::mt19937_64 rng(8);
  Embedding<long double> embedding(/*vocabulary=*/4, /*context=*/3, /*channels=*/2, rng);
  const std::vector<int> ids = {3, 0, 3, 1, 1, 3};
  const Sequences sequences{2, 3};
  const auto weight = random_normal<TokenMatrix<long double>>({6, 2}, Seed{240});
  embedding.backward(ids, sequences, weight);
  expect_parameter_gradients(embedding, 1e-12,
                             [&] { return embedding(ids, sequences).cwiseProduct(weight).sum(); });
}

TEST(Embedding, AddsTokenAndPosition) {
  std::mt19937_64 rng(9);
  Embedding<double> embedding(4, 3, 2, rng);
  TokenMatrix<double> token, position;
  embedding.visit_parameters([&](const std::string& name, auto& value, auto&) {
    (name == "token" ? token : position) = value;
  });
  const std::vector<int> ids = {3, 0, 3, 1, 1, 3};
  const TokenMatrix<double> x = embedding(ids, {2, 3});
  EXPECT_EQ(x.row(4), token.row(1) + position.row(1));
  EXPECT_EQ(x.row(5), token.row(3) + position.row(2));
  const TokenMatrix<double> behind_one = embedding(std::span(ids).first(2), {1, 2}, 1);
  EXPECT_EQ(behind_one.row(1), token.row(0) + position.row(2));
}

}  // namespace
}  // namespace gpt::test
