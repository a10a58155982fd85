// SPDX-License-Identifier: MIT
// RXNMapper's ALBERT, trained on chemical reactions: Post-LN, one layer that is used twelve times.
//
// The references are PyTorch's of each norm's input and output, the last hidden state, the logits
// of the masked-token head, and the attention of layer 10, head 5, from which RXNMapper reads which
// atom became which; its published confidences come of them to 1.2e-7.
//
// Source   Lan et al. 2020, arXiv:1909.11942, section 3.1; transformers, modeling_albert.py:
//          AlbertEmbeddings, AlbertLayer, AlbertMLMHead; rxn4chemistry/rxnmapper
#include "../support/exact_bits.hpp"
#include "../support/random_tokens.hpp"
#include "model_files.hpp"
#include "sublayers.hpp"
#include <tokennorm/checkpoint/center_weights.hpp>
#include <tokennorm/checkpoint/config.hpp>
#include <tokennorm/checkpoint/families.hpp>
#include <tokennorm/checkpoint/fold_norm.hpp>
#include <tokennorm/checkpoint/names.hpp>
#include <tokennorm/checkpoint/safetensors.hpp>
#include <tokennorm/tokennorm.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

using Ids = std::vector<Index>;

template <class Scalar>
LayerNorm<Scalar> norm_of(const Safetensors& file, const std::string& name, Index channels,
                          double epsilon) {
  LayerNorm<Scalar> norm(channels, {.epsilon = epsilon});
  load_norm(norm, file, name);
  return norm;
}

template <class Scalar>
auto shared_layer(const Safetensors& file, const nlohmann::json& config, const Family& family) {
  const std::string name = "albert.encoder.albert_layer_groups.0.albert_layers.0.";
  const auto norm = [&](NormRole role) {
    return norm_of<Scalar>(file, family.key(role), config.at("hidden_size"), family.epsilon);
  };
  using Attend = Attention<Scalar>;
  return PostLN(Attend{config.at("num_attention_heads"), Attend::Sees::all,
                       Linear<Scalar>(file, name + "attention.query"),
                       Linear<Scalar>(file, name + "attention.key"),
                       Linear<Scalar>(file, name + "attention.value"),
                       Linear<Scalar>(file, name + "attention.dense")},
                norm(NormRole::attention),
                FeedForward<Scalar, ErfGelu>{Linear<Scalar>(file, name + "ffn"),
                                             Linear<Scalar>(file, name + "ffn_output")},
                norm(NormRole::feed_forward));
}

template <class Scalar>
class Albert {
 public:
  using Tokens = TokenMatrix<Scalar>;

  /// What one run leaves: a Use of the shared layer and its output, for each of its uses.
  struct Run {
    Tokens embedding_sum, embedded, hidden_in;
    std::vector<Use<Scalar>> uses;
    std::vector<Tokens> outputs;
    const Tokens& last_hidden() const { return outputs.back(); }
  };

  Albert(const Safetensors& file, const nlohmann::json& config, const Family& family)
      : layers(config.at("num_hidden_layers")),
        words(file.matrix<Scalar>("albert.embeddings.word_embeddings.weight")),
        positions(file.matrix<Scalar>("albert.embeddings.position_embeddings.weight")),
        types(file.matrix<Scalar>("albert.embeddings.token_type_embeddings.weight")),
        embedding_norm(
            norm_of<Scalar>(file, family.key(NormRole::embedding), words.cols(), family.epsilon)),
        hidden_mapping(file, "albert.encoder.embedding_hidden_mapping_in"),
        layer(shared_layer<Scalar>(file, config, family)),
        head(file, "predictions.dense"),
        head_norm(norm_of<Scalar>(file, "predictions.LayerNorm", words.cols(), family.epsilon)),
        decoder(file, "predictions.decoder") {}

  /// h ← layer(h), twelve times.
  Run operator()(const Ids& ids) const {
    Run run = embed(ids);
    for (std::size_t i = 0; i < layers; ++i) {
      layer(i == 0 ? run.hidden_in : run.outputs[i - 1], run.outputs[i], with(run.uses[i]));
    }
    return run;
  }
  /// The same, with a record for each use.
  Run forward(const Ids& ids, std::vector<TrainingRecord<Scalar>>& records) {
    Run run = embed(ids);
    records.resize(layers);
    for (std::size_t i = 0; i < layers; ++i) {
      layer.forward(i == 0 ? run.hidden_in : run.outputs[i - 1], run.outputs[i], records[i],
                    with(run.uses[i]));
    }
    return run;
  }
  /// From the gradient of the last hidden state to that of hidden_in.
  Tokens backward(Tokens gradient, std::vector<TrainingRecord<Scalar>>& records, Run& run) {
    for (std::size_t i = layers; i-- > 0;) {
      layer.backward(gradient, gradient, records[i], with(run.uses[i]));
    }
    return gradient;
  }
  Tokens logits(const Tokens& hidden) const {
    return decoder(head_norm(Tokens(head(hidden).unaryExpr(&ErfGelu::value<Scalar>))));
  }

  std::size_t layers;
  Tokens words, positions, types;
  LayerNorm<Scalar> embedding_norm;
  Linear<Scalar> hidden_mapping;
  decltype(shared_layer<Scalar>(std::declval<Safetensors>(), {}, {})) layer;
  Linear<Scalar> head;
  LayerNorm<Scalar> head_norm;
  Linear<Scalar> decoder;

 private:
  Run embed(const Ids& ids) const {
    Run run;
    run.embedding_sum = positions.topRows(static_cast<Index>(ids.size())).rowwise() + types.row(0);
    for (std::size_t t = 0; t < ids.size(); ++t) {
      run.embedding_sum.row(static_cast<Index>(t)) += words.row(ids[t]);
    }
    run.embedded = embedding_norm(run.embedding_sum);
    run.hidden_in = hidden_mapping(run.embedded);
    run.uses.assign(layers, Use<Scalar>(run.hidden_in.rows()));
    run.outputs.resize(layers);
    return run;
  }
};

class RxnMapper : public ModelTest {
 protected:
  RxnMapper() : ModelTest("rxnmapper-albert") {}

  template <class Scalar>
  Albert<Scalar> albert() const {
    return albert<Scalar>(family());
  }
  template <class Scalar>
  Albert<Scalar> albert(const Family& family) const {
    return {file(), read_json(folder / "config.json"), family};
  }
  Safetensors file() const { return Safetensors::open(folder / "model.safetensors"); }
  Family family() const { return family_from_config(folder / "config.json"); }
  /// Six reactions, as the numbers of their tokens.
  std::vector<Ids> reactions() const {
    std::vector<Ids> result;
    for (const auto& reaction : read_json(folder / "reference/reference.json")) {
      result.push_back(reaction.at("ids"));
    }
    EXPECT_EQ(result.size(), 6U);
    return result;
  }
  TokenMatrix<float> reference(const std::string& name, Index channels) const {
    return floats_of(file_text(folder / "reference" / (name + ".f32")), channels);
  }

  /// Each norm of case 2, and what it was given.
  template <class Scalar>
  void expect_norms_of_the_reference() {
    const auto model = albert<Scalar>();
    ASSERT_EQ(model.layers, 12U);
    const auto run = model(reactions()[2]);
    expect_near("the embeddings", run.embedding_sum, reference("c2_emb_sum", 128));
    expect_near("the embedding norm", run.embedded, reference("c2_emb_ln", 128));
    expect_near("what goes into the layers", run.hidden_in, reference("c2_hidden_in", 256));
    for (std::size_t i = 0; i < model.layers; ++i) {
      const std::string layer = "c2_l" + std::to_string(i);
      const auto& attention = run.uses[i].attention;
      expect_near(layer + "_attn_sum", attention.input + attention.output,
                  reference(layer + "_attn_sum", 256));
      expect_near(layer + "_ln1", run.uses[i].feed_forward.input, reference(layer + "_ln1", 256));
      expect_near(layer + "_out", run.outputs[i], reference(layer + "_out", 256));
    }
    expect_near("the last hidden state", run.last_hidden(), reference("c2_last_hidden", 256));
  }
  template <class Scalar>
  static TokenMatrix<Scalar> logits_of(const Albert<Scalar>& model, const Ids& ids) {
    return model.logits(model(ids).last_hidden());
  }
};

TEST_F(RxnMapper, IsOfTheFamilyWhoseLayersAreOne) {
  EXPECT_EQ(family().name, "albert");
  EXPECT_EQ(detect_family(file().names()).name, "albert");
  const auto model = albert<float>();
  // The embedding norm, of other channels, stands outside of a stack.
  Family without_embedding = family();
  without_embedding.keys[NormRole::embedding] = "";
  auto block = model.layer;
  for (auto* norm : {&block.attention_norm(), &block.feed_forward_norm()}) norm->scale().setZero();
  Stack stack(NoNorm{}, std::vector(model.layers, block), NoNorm{});
  load_norms(stack, file(), without_embedding);
  for (const auto& loaded : stack.blocks()) {
    EXPECT_EQ(loaded.attention_norm().scale(), model.layer.attention_norm().scale());
    EXPECT_EQ(loaded.feed_forward_norm().scale(), model.layer.feed_forward_norm().scale());
  }
}

TEST_F(RxnMapper, HasTheNormsOfTheReference) {
  expect_norms_of_the_reference<float>();
  expect_norms_of_the_reference<double>();
}

// The reference is in float32: its logits, up to 22, are off by 1.86e-5 of it themselves, as the
// model in double shows. Its own rounding leaves the model in float the same tolerance.
TEST_F(RxnMapper, HasTheLogitsOfTheReference) {
  const Ids ids = reactions()[2];
  const TokenMatrix<double> logits = logits_of(albert<double>(), ids);
  expect_near("in double", logits, reference("c2_mlm_logits", 591));
  expect_near("in float", logits_of(albert<float>(), ids), logits);
}

// One token at a time is hidden, in one of the short reactions.
TEST_F(RxnMapper, RestoresAsManyMaskedTokensAsTheReference) {
  constexpr Index mask = 14;  // by vocab.txt
  const auto model = albert<float>();
  const auto reaction = read_json(folder / "reference/reference.json")[4];
  const Ids ids = reaction.at("ids");
  Index restored = 0, all = 0;
  for (std::size_t t = 1; t + 1 < ids.size(); ++t, ++all) {  // [CLS] … [SEP]
    Ids masked = ids;
    masked[t] = mask;
    Index found;
    logits_of(model, masked).row(static_cast<Index>(t)).maxCoeff(&found);
    restored += found == ids[t];
  }
  EXPECT_EQ((Ids{restored, all}), reaction.at("masked_lm_top1").get<Ids>());
}

TEST_F(RxnMapper, HasTheLastHiddenStateOfALongReaction) {
  expect_near("the last hidden state", albert<float>()(reactions()[0]).last_hidden(),
              reference("c0_last_hidden", 256));
}

TEST_F(RxnMapper, HasTheAttentionThatMapsTheAtoms) {
  const auto model = albert<float>();
  const auto ids = reactions();
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::string name = "c" + std::to_string(i) + "_attn_l10_h5";
    expect_near(name, model(ids[i]).uses[10].attention.weights[5],
                reference(name, static_cast<Index>(ids[i].size())));
  }
}

TEST_F(RxnMapper, IsToldFromOneWithAnEpsilonOf1e5) {
  const Ids ids = reactions()[2];
  Family other = family();
  EXPECT_EQ(other.epsilon, 1e-12);
  other.epsilon = 1e-5;
  const auto with_another = albert<float>(other)(ids);
  const auto expected = reference("c2_emb_ln", 128);
  EXPECT_GT((with_another.embedded - expected).cwiseAbs().maxCoeff(), 5 * tolerance);
  EXPECT_GT((with_another.last_hidden() - reference("c2_last_hidden", 256)).cwiseAbs().maxCoeff(),
            2 * tolerance);
}

TEST_F(RxnMapper, TrainsWithARecordForEachUse) {
  const Ids ids = reactions()[2];
  auto single = albert<float>();
  std::vector<TrainingRecord<float>> single_records;
  const auto trained = single.forward(ids, single_records), inferred = single(ids);
  for (std::size_t i = 0; i < single.layers; ++i) {
    EXPECT_TRUE(same_bits(trained.outputs[i], inferred.outputs[i])) << "layer " << i;
  }

  // Σ dy∘y against central differences, along random directions of each parameter and of the input.
  using Tokens = TokenMatrix<double>;
  auto model = albert<double>();
  std::vector<TrainingRecord<double>> records;
  auto run = model.forward(ids, records);
  const auto dy = random_normal<Tokens>({run.hidden_in.rows(), 256}, Seed{9101});
  const Tokens dx = model.backward(dy, records, run);
  for (const auto& record : records) EXPECT_FALSE(record.has_forward());

  const Tokens h = run.hidden_in;
  const auto loss = [&](const Tokens& x) {
    Tokens y = x;
    for (auto& use : run.uses) model.layer(y, y, with(use));
    return y.cwiseProduct(dy).sum();
  };
  constexpr double step = 0x1p-16;
  const auto expect_slope = [&](const std::string& of, double slope, const auto& loss_at) {
    const double numeric = (loss_at(step) - loss_at(-step)) / (2 * step);
    EXPECT_GT(std::abs(numeric), 0.1) << of;
    EXPECT_NEAR(slope, numeric, 1e-6 * std::abs(numeric)) << of;
  };
  const auto direction = random_normal<Tokens>({h.rows(), h.cols()}, Seed{9102});
  expect_slope("hidden_in", dx.cwiseProduct(direction).sum(),
               [&](double by) { return loss(h + by * direction); });
  int parameters = 0;
  model.layer.visit_parameters([&](const std::string& name, auto& value, auto& gradient) {
    const Eigen::VectorXd at = value;
    const auto along = random_vector<double>(at.size(), Seed{9103});
    expect_slope(name, gradient.dot(along), [&](double by) {
      value = at + by * along;
      return loss(h);
    });
    value = at;
    ++parameters;
  });
  EXPECT_EQ(parameters, 4) << "γ and β of both norms";
}

// What a Post-LN norm gives is the residual stream too: fold_norms of such a block does not compile
// (tests/compile_fail/fold_a_post_ln_norm.cpp), nor does center_writers. The norms around the
// layers have one reader each.
TEST_F(RxnMapper, KeepsItsLogitsWhenTheNormsAroundTheLayersAreFolded) {
  const Ids ids = reactions()[2];
  const TokenMatrix<double> logits = logits_of(albert<double>(), ids);
  const auto fold_and_center = [&](auto model, const auto& expected) {
    const auto words = model.words;
    fold_norm(model.embedding_norm, model.hidden_mapping.map());
    fold_norm(model.head_norm, model.decoder.map());
    EXPECT_EQ(model.embedding_norm.scale().size() + model.head_norm.shift().size(), 0);
    EXPECT_TRUE(same_bits(model.words, words)) << "the decoder has a matrix of its own";
    expect_near("folded", logits_of(model, ids), expected);

    const auto mapping = model.hidden_mapping.weight;
    center_reader(model.embedding_norm, model.hidden_mapping.map());
    center_reader(model.head_norm, model.decoder.map());
    EXPECT_GT((model.hidden_mapping.weight - mapping).cwiseAbs().maxCoeff(), 1e-3);
    expect_near("centred", logits_of(model, ids), expected);
  };
  fold_and_center(albert<double>(), reference("c2_mlm_logits", 591));
  fold_and_center(albert<float>(), logits);
}

TEST_F(RxnMapper, IsAnotherModelWhenAPostLNNormIsFoldedByHand) {
  const Ids ids = reactions()[2];
  auto model = albert<float>();
  fold_norm(model.layer.attention_norm(), model.layer.feed_forward().in.map());
  EXPECT_GT((model(ids).outputs[0] - reference("c2_l0_out", 256)).cwiseAbs().maxCoeff(), 0.1f);
}

}  // namespace
}  // namespace tokennorm::test
