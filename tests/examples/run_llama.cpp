// SPDX-License-Identifier: MIT
// The language model of example 05: against its equations in long double, and, where the model is,
// against what llama2.c writes of stories260K. It is looked for in $TOKENNORM_MODELS or beside the
// source tree.
#include "05_run_llama/generate.hpp"
#include "05_run_llama/safetensors.hpp"
#include "checkpoint/files.hpp"
#include "support/message_of.hpp"
#include "support/random_tokens.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace llama::test {
namespace {

using examples::read_llama2c;

using tokennorm::SafetensorsWriter;
using tokennorm::test::Random;
using tokennorm::test::read_bytes;
using tokennorm::test::Seed;
using tokennorm::test::TemporaryFolder;

/// An executor of so many threads.
struct OnThreads {
  explicit OnThreads(int count) : pool(count) {}
  operator Threads() { return tokennorm::thread_pool(pool); }
  Eigen::ThreadPool pool;
};

std::string message_of(const auto& call) {
  return tokennorm::test::message_of<std::runtime_error>(call);
}

/// A model of random values, all norms' scales different from 1.
Llama random_model(const Config& config, Seed seed) {
  Llama model(config);
  Random random(seed);
  model.each_tensor([&](const std::string& name, const std::string&, auto tensor) {
    const bool is_scale = name.ends_with("norm");
    const double deviation =
        is_scale ? 0.3
                 : 1 / std::sqrt(static_cast<double>(name.find("tok") == 0 ? 1 : tensor.cols()));
    for (Index i = 0; i < tensor.size(); ++i) {
      tensor.data()[i] = static_cast<float>(random.normal(is_scale ? 1 : 0, deviation));
    }
  });
  return model;
}

std::vector<int> random_ids(std::size_t count, Index vocabulary, Seed seed) {
  Random random(seed);
  std::vector<int> ids(count);
  for (int& id : ids) id = static_cast<int>(random.below(vocabulary));
  return ids;
}

/// The logits behind each id, read one after the other.
Tokens logits_one_by_one(const Llama& model, std::span<const int> ids, const Threads& threads) {
  Session session(model.config());
  Tokens logits(static_cast<Index>(ids.size()), model.config().vocabulary);
  for (std::size_t t = 0; t < ids.size(); ++t) {
    logits.row(static_cast<Index>(t)) = model(ids.subspan(t, 1), session, threads);
  }
  return logits;
}

double largest_difference(const auto& a, const auto& b) {
  return static_cast<double>((a - b).cwiseAbs().maxCoeff());
}

// ---- the equations, in long double --------------------------------------------------------------

using Real = long double;
using Reals = tokennorm::TokenMatrix<Real>;

Reals rms_normed(const Reals& x, const Reals& scale, double epsilon) {
  Reals y = x;
  for (Index t = 0; t < x.rows(); ++t) {
    const Real mean_square = x.row(t).squaredNorm() / static_cast<Real>(x.cols());
    y.row(t) = x.row(t).cwiseProduct(scale) / std::sqrt(mean_square + static_cast<Real>(epsilon));
  }
  return y;
}

/// Pairs (2i, 2i + 1) of each head turn by t·base^(−2i / D).
void rotate(Reals& x, Index d, double base) {
  for (Index t = 0; t < x.rows(); ++t) {
    for (Index c = 0; c < x.cols(); c += 2) {
      const Real angle = static_cast<Real>(t) *
                         std::pow(static_cast<Real>(base), -static_cast<Real>(c % d) / Real(d));
      const Real a = x(t, c), b = x(t, c + 1);
      x(t, c) = a * std::cos(angle) - b * std::sin(angle);
      x(t, c + 1) = a * std::sin(angle) + b * std::cos(angle);
    }
  }
}

Reals exact_logits(Llama& model, const std::vector<int>& ids) {
  const Config& config = model.config();
  std::map<std::string, Reals> w;
  model.each_tensor([&](const std::string& name, const std::string&, auto tensor) {
    w[name] = tensor.template cast<Real>();
  });
  const auto count = static_cast<Index>(ids.size());
  const Index d = config.channels / config.heads;
  Reals h(count, config.channels);
  for (Index t = 0; t < count; ++t) {
    h.row(t) = w["tok_embeddings"].row(ids[static_cast<std::size_t>(t)]);
  }
  for (Index layer = 0; layer < config.layers; ++layer) {
    const std::string at = "layers." + std::to_string(layer) + ".";
    const Reals n = rms_normed(h, w[at + "attention_norm"], config.epsilon);
    Reals q = n * w[at + "attention.wq"].transpose(), k = n * w[at + "attention.wk"].transpose();
    const Reals v = n * w[at + "attention.wv"].transpose();
    rotate(q, d, config.rope_base);
    rotate(k, d, config.rope_base);
    Reals mixed = Reals::Zero(count, config.channels);
    for (Index head = 0; head < config.heads; ++head) {
      const Index kv = head * config.kv_heads / config.heads;
      for (Index i = 0; i < count; ++i) {
        std::vector<Real> weights;
        Real sum = 0;
        for (Index j = 0; j <= i; ++j) {
          Real score = 0;
          for (Index c = 0; c < d; ++c) score += q(i, head * d + c) * k(j, kv * d + c);
          weights.push_back(std::exp(score / std::sqrt(Real(d))));
          sum += weights.back();
        }
        for (Index j = 0; j <= i; ++j) {
          for (Index c = 0; c < d; ++c) {
            mixed(i, head * d + c) += weights[static_cast<std::size_t>(j)] / sum * v(j, kv * d + c);
          }
        }
      }
    }
    h += mixed * w[at + "attention.wo"].transpose();
    const Reals m = rms_normed(h, w[at + "ffn_norm"], config.epsilon);
    Reals gate = m * w[at + "feed_forward.w1"].transpose();
    gate = gate.unaryExpr([](Real g) { return g / (1 + std::exp(-g)); });
    const Reals up = m * w[at + "feed_forward.w3"].transpose();
    h += gate.cwiseProduct(up) * w[at + "feed_forward.w2"].transpose();
  }
  return rms_normed(h, w["norm"], config.epsilon) *
         w[config.tied ? "tok_embeddings" : "output"].transpose();
}

constexpr Config small{.channels = 24,
                       .hidden = 40,
                       .layers = 3,
                       .heads = 6,
                       .kv_heads = 2,
                       .vocabulary = 37,
                       .context = 23};

Config with_heads(Index heads, Index kv_heads, bool tied) {
  Config config = small;
  config.heads = heads;
  config.kv_heads = kv_heads;
  config.tied = tied;
  return config;
}

class RunLlama : public ::testing::TestWithParam<Config> {};

INSTANTIATE_TEST_SUITE_P(Shapes, RunLlama,
                         ::testing::Values(with_heads(6, 2, true), with_heads(4, 4, false),
                                           with_heads(12, 1, true), with_heads(1, 1, false)),
                         [](const auto& config) {
                           return std::to_string(config.param.heads) + "_heads_" +
                                  std::to_string(config.param.kv_heads) + "_kv_heads";
                         });

TEST_P(RunLlama, IsItsEquations) {
  Llama model = random_model(GetParam(), Seed{501});
  const auto ids = random_ids(23, small.vocabulary, Seed{502});
  const Tokens expected = exact_logits(model, ids).cast<float>();
  for (const int count : {1, 2}) {
    OnThreads threads(count);
    EXPECT_LE(largest_difference(logits_one_by_one(model, ids, threads), expected), 2e-5) << count;
  }
}

TEST_P(RunLlama, ReadsAPromptAtOnceOrInPieces) {
  Llama model = random_model(GetParam(), Seed{503});
  const auto ids = random_ids(23, small.vocabulary, Seed{504});
  const Tokens expected = exact_logits(model, ids).cast<float>();
  OnThreads two(2);
  for (const std::size_t prompt : {1U, 7U, 22U, 23U}) {
    SCOPED_TRACE(::testing::Message() << "a prompt of " << prompt);
    Session session(model.config());
    const auto read = [&](std::size_t first, std::size_t count) {
      const Tokens& logits = model(std::span(ids).subspan(first, count), session, two);
      ASSERT_EQ(logits.rows(), 1);
      EXPECT_LE(largest_difference(logits, expected.row(session.position - 1)), 2e-5);
    };
    read(0, prompt);
    if (prompt < 20) read(prompt, 3);
    while (session.position < 23) read(static_cast<std::size_t>(session.position), 1);
    EXPECT_THROW(model(std::span(ids).first(1), session, two), std::invalid_argument);
    session.position = 0;  // starts again
    read(0, prompt);
  }
}

TEST(RunLlama, AnyNumberOfSessionsGoThroughOneConstModel) {
  const Llama model = random_model(small, Seed{505});
  std::vector<std::vector<int>> ids;
  std::vector<Tokens> alone, together(4);
  OnThreads one(1), two(2);
  for (std::uint64_t i = 0; i < together.size(); ++i) {
    ids.push_back(random_ids(20, small.vocabulary, Seed{506 + i}));
    alone.push_back(logits_one_by_one(model, ids.back(), one));
  }
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < together.size(); ++i) {
    threads.emplace_back([&, i] { together[i] = logits_one_by_one(model, ids[i], two); });
  }
  for (std::thread& thread : threads) thread.join();
  for (std::size_t i = 0; i < together.size(); ++i) {
    EXPECT_LE(largest_difference(together[i], alone[i]), 1e-5) << i;
  }
}

TEST(RunLlama, ASessionMayHaveLessRoomThanTheModel) {
  const Llama model = random_model(small, Seed{520});
  Config config = small;
  config.context = 5;
  Session session(config);
  OnThreads one(1);
  const auto ids = random_ids(6, small.vocabulary, Seed{521});
  EXPECT_EQ(tokennorm::test::message_of([&] { model(ids, session, one); }),
            "llama: 6 tokens behind 0; expected 1 or more, in a context of 5");
  EXPECT_EQ(session.position, 0);
  const Tokens logits = model(std::span(ids).first(5), session, one);
  EXPECT_LE(largest_difference(logits, logits_one_by_one(model, ids, one).row(4)), 1e-5);
}

// ---- files --------------------------------------------------------------------------------------

void expect_same_tensors(Llama& a, Llama& b) {
  std::vector<Tokens> values;
  a.each_tensor(
      [&](const std::string&, const std::string&, auto tensor) { values.push_back(tensor); });
  std::size_t next = 0;
  b.each_tensor([&](const std::string& name, const std::string&, auto tensor) {
    ASSERT_LT(next, values.size());
    EXPECT_TRUE(values[next++] == tensor) << name;
  });
  EXPECT_EQ(next, values.size());
}

TEST_P(RunLlama, ComesBackFromLlama2csFormat) {
  const TemporaryFolder folder;
  Llama model = random_model(GetParam(), Seed{510});
  examples::write_llama2c(folder / "model.bin", model);
  Llama again = read_llama2c<Llama>(folder / "model.bin");
  EXPECT_EQ(again.config().tied, GetParam().tied);
  EXPECT_EQ(again.config().kv_heads, GetParam().kv_heads);
  expect_same_tensors(model, again);
}

std::string config_json(const Config& config, const std::string& more = "") {
  const auto field = [](const char* key, auto value) {
    return std::string(", \"") + key + "\": " + std::to_string(value);
  };
  return R"({"model_type": "llama", "rms_norm_eps": 2e-05)" +
         field("hidden_size", config.channels) + field("intermediate_size", config.hidden) +
         field("num_hidden_layers", config.layers) + field("num_attention_heads", config.heads) +
         field("num_key_value_heads", config.kv_heads) + field("vocab_size", config.vocabulary) +
         field("max_position_embeddings", config.context) + more + "}";
}

using Tensors = std::map<std::string, Tokens>;

/// The model under Meta's names or Hugging Face's.
Tensors named_tensors(Llama& model, bool metas) {
  Tensors tensors;
  const Index d = model.config().head_channels();
  model.each_tensor([&](const std::string& meta, const std::string& hugging_face, auto tensor) {
    Tokens values = tensor;
    if (!metas && (meta.ends_with("wq") || meta.ends_with("wk"))) {
      // As Hugging Face's conversion has it: view(heads, D / 2, 2, C).transpose(1, 2).
      for (Index head = 0; head < values.rows() / d; ++head) {
        for (Index i = 0; i < d / 2; ++i) {
          values.row(head * d + i) = tensor.row(head * d + 2 * i);
          values.row(head * d + d / 2 + i) = tensor.row(head * d + 2 * i + 1);
        }
      }
    }
    tensors[(metas ? meta : hugging_face) + ".weight"] = values;
  });
  return tensors;
}

std::filesystem::path write_safetensors(const std::filesystem::path& path, const Tensors& tensors) {
  SafetensorsWriter writer;
  for (const auto& [name, values] : tensors) {
    if (values.rows() == 1) {
      writer.add(name, Eigen::VectorXf(values.row(0)));
    } else {
      writer.add(name, values);
    }
  }
  writer.save(path);
  return path;
}

TEST_P(RunLlama, ComesBackFromSafetensorsUnderEitherNames) {
  const TemporaryFolder folder;
  Llama model = random_model(GetParam(), Seed{511});
  const auto config =
      folder.write("config.json", config_json(GetParam(), R"(, "rope_theta": 5e5)"));
  for (const bool metas : {true, false}) {
    const auto path = write_safetensors(folder / "model.safetensors", named_tensors(model, metas));
    Llama again = read_safetensors(path, config);
    EXPECT_EQ(again.config().epsilon, 2e-5);
    EXPECT_EQ(again.config().rope_base, 5e5);
    EXPECT_EQ(again.config().tied, GetParam().tied);
    expect_same_tensors(model, again);
  }
}

TEST(RunLlamaFiles, BrokenOnesOfLlama2csFormatSayWhatIsWrong) {
  const TemporaryFolder folder;
  Llama model = random_model(small, Seed{512});
  const auto path = folder / "model.bin";
  examples::write_llama2c(path, model);
  const std::string good = read_bytes(path);
  const auto expect = [&](const std::string& bytes, const std::string& words) {
    folder.write("model.bin", bytes);
    const std::string message = message_of([&] { read_llama2c<Llama>(path); });
    EXPECT_NE(message.find("model.bin: "), std::string::npos) << message;
    EXPECT_NE(message.find(words), std::string::npos) << message;
  };
  const auto with_number = [&](std::size_t place, std::int32_t value) {
    std::string bytes = good;
    std::memcpy(bytes.data() + 4 * place, &value, sizeof value);
    return bytes;
  };
  expect("", "too short");
  expect(good.substr(0, 27), "too short");
  expect(good.substr(0, 28), "has 28 bytes; expected " + std::to_string(good.size()));
  expect(good.substr(0, good.size() - 1), "bytes; expected");
  expect(good + "x", "bytes; expected");
  expect("24ka\1" + good.substr(5), "version");
  const char* names[] = {"channels", "hidden",     "layers", "heads",
                         "kv heads", "vocabulary", "context"};
  for (std::size_t i = 0; i < 7; ++i) {
    expect(with_number(i, 0), names[i]);
    if (i != 5) expect(with_number(i, -24), names[i]);
    expect(with_number(i, 0x7fffffff), names[i]);
  }
  expect(with_number(5, std::numeric_limits<std::int32_t>::min()), "vocabulary");
  expect(with_number(3, 5), "divide");
  expect(with_number(3, 24), "divide");  // a head of one channel has no pairs
  expect(with_number(4, 4), "divide");
  expect(with_number(1, 41), "bytes; expected");
  expect(with_number(5, -37), "bytes; expected");
  std::string bytes = good;
  const float infinity = std::numeric_limits<float>::infinity();
  std::memcpy(bytes.data() + 28 + 4 * 24 * 37, &infinity, sizeof infinity);
  expect(bytes, "layers.0.attention_norm has a value that is not finite");
  std::filesystem::remove(path);
  EXPECT_NE(message_of([&] { read_llama2c<Llama>(path); }).find("cannot be read"),
            std::string::npos);
}

TEST(RunLlamaFiles, BrokenSafetensorsSayWhatIsWrong) {
  const TemporaryFolder folder;
  Llama model = random_model(small, Seed{513});
  const auto config = folder.write("config.json", config_json(small));
  for (const bool metas : {true, false}) {
    const Tensors good = named_tensors(model, metas);
    const std::string norm = metas ? "norm.weight" : "model.norm.weight";
    const std::string query =
        metas ? "layers.1.attention.wq.weight" : "model.layers.1.self_attn.q_proj.weight";
    const auto expect = [&](const std::string& words, const auto& change) {
      Tensors tensors = good;
      change(tensors);
      const auto path = write_safetensors(folder / "model.safetensors", tensors);
      const std::string message = message_of([&] { read_safetensors(path, config); });
      EXPECT_NE(message.find("model.safetensors"), std::string::npos) << message;
      EXPECT_NE(message.find(words), std::string::npos) << message;
    };
    expect(norm, [&](Tensors& tensors) { tensors.erase(norm); });
    expect(query, [&](Tensors& tensors) { tensors.erase(query); });
    expect(norm + " is 1 x 23; expected 1 x 24",
           [&](Tensors& tensors) { tensors[norm] = Tokens::Ones(1, 23); });
    expect(query + " is 24 x 25; expected 24 x 24",
           [&](Tensors& tensors) { tensors[query] = Tokens::Ones(24, 25); });
    expect(query + " has a value that is not finite",
           [&](Tensors& tensors) { tensors[query](3, 4) = std::nanf(""); });
    expect("has layers.0.bias, which is no part",
           [&](Tensors& tensors) { tensors["layers.0.bias"] = Tokens::Ones(1, 24); });
  }
}

TEST(RunLlamaFiles, ConfigsOfOtherModelsSayWhatIsWrong) {
  const TemporaryFolder folder;
  const auto expect = [&](const std::string& json, const std::string& words) {
    const auto path = folder.write("config.json", json);
    const std::string message = message_of([&] { examples::read_config(path); });
    EXPECT_NE(message.find("config.json: "), std::string::npos) << message;
    EXPECT_NE(message.find(words), std::string::npos) << message;
  };
  EXPECT_EQ(examples::read_config(folder.write("config.json", config_json(small))).rope_base, 1e4);
  for (const auto& [more, words] : std::map<std::string, std::string>{
           {R"("attention_bias": true)", "attention_bias is true; this example has only false"},
           {R"("mlp_bias": true)", "mlp_bias is true"},
           {R"("hidden_act": "gelu")", "hidden_act is \"gelu\""},
           {R"("head_dim": 128)", "head_dim is 128; this example has only 4"},
           {R"("rope_scaling": {"factor": 8})",
            "rope_scaling is an object; this example has only "
            "models without it"},
           {R"("rope_theta": "1")", "rope_theta is no number"},
           {R"("rope_theta": 0)", "rope_theta"},
           {R"("model_type": "mistral")", "model_type is \"mistral\""},
           {R"("hidden_size": 24.5)", "hidden_size is no whole number"},
           {R"("vocab_size": 0)", "vocabulary is 0"},
           {R"("vocab_size": null)", "vocab_size is no whole number"},
           {R"("num_attention_heads": 5)", "divide"},
           {R"("rms_norm_eps": -1)", "rms_norm_eps"}}) {
    expect(config_json(small, ", " + more), words);  // the later one of two fields holds
  }
  expect("{", "JSON");
  expect(R"({"model_type": "llama", "rms_norm_eps": 1e-5})", "hidden_size is no whole number");
  EXPECT_NE(
      message_of([&] { examples::read_config(folder / "missing.json"); }).find("missing.json"),
      std::string::npos);
}

// ---- what llama2.c writes -----------------------------------------------------------------------

class Stories260K : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* const given = std::getenv("TOKENNORM_MODELS");
    folder = std::filesystem::path(given != nullptr ? given : TOKENNORM_MODELS) / "stories260K";
    if (!std::filesystem::is_regular_file(folder / "stories260K.bin")) {
      GTEST_SKIP() << "no stories260K.bin in " << folder << "; TOKENNORM_MODELS names its parent";
    }
    tokenizer.emplace(Tokenizer::read(folder / "tok512.bin", 512));
  }

  std::string reference(const std::string& name) const {
    return read_bytes(folder / "reference" / name);
  }
  std::vector<int> reference_ids(const std::string& name) const {
    std::istringstream stream(reference(name));
    return {std::istream_iterator<int>(stream), {}};
  }
  Tokens reference_logits(const std::string& name) const {
    const std::string bytes = reference(name);
    Tokens logits(64, 512);
    EXPECT_EQ(bytes.size(), 4U * 64 * 512);
    std::memcpy(logits.data(), bytes.data(), 4 * 64 * 512);
    return logits;
  }
  /// The ids and the text of the most probable tokens.
  std::pair<std::vector<int>, std::string> greedy(const Llama& model, const std::string& prompt,
                                                  Index steps, int threads = 1) {
    OnThreads pool(threads);
    std::vector<int> ids = tokenizer->encode(prompt);
    std::string text;
    generate(
        model, ids, steps, pool,
        [](const auto& logits) {
          Index best = 0;
          logits.maxCoeff(&best);
          return static_cast<int>(best);
        },
        [&](int previous, int id) { text += tokenizer->decode(previous, id); });
    return {ids, text};
  }
  /// How far its logits are off, of the first 64 tokens of p0 and p1.
  double logit_error(const Llama& model) {
    double error = 0;
    OnThreads one(1);
    for (const std::string prompt : {"p0", "p1"}) {
      std::vector<int> ids = reference_ids(prompt + ".ids");
      ids.resize(64);
      const Tokens expected = reference_logits(prompt + ".first64steps.logits.f32");
      error = std::max(error, largest_difference(logits_one_by_one(model, ids, one), expected));
    }
    return error;
  }

  std::filesystem::path folder;
  std::optional<Tokenizer> tokenizer;
};

TEST_F(Stories260K, WritesThePublishedText) {
  const auto model = read_llama2c<Llama>(folder / "stories260K.bin");
  for (const int threads : {1, 2}) {
    EXPECT_EQ(greedy(model, "", 200, threads).second, reference("upstream_expected_200.txt"));
  }
}

TEST_F(Stories260K, GoesOnWithPrompts) {
  const auto model = read_llama2c<Llama>(folder / "stories260K.bin");
  for (const std::string name : {"p0", "p1"}) {
    for (const int threads : {1, 2}) {
      const auto [ids, text] = greedy(model, reference(name + ".prompt"), 256, threads);
      EXPECT_EQ(ids, reference_ids(name + ".ids")) << name;
      EXPECT_EQ(text + "\n", reference(name + ".txt")) << name;
    }
  }
}

TEST_F(Stories260K, LogitsAreThoseOfLlama2c) {
  const double error = logit_error(read_llama2c<Llama>(folder / "stories260K.bin"));
  std::printf("largest difference of a logit: %.1e\n", error);
  EXPECT_LE(error, 1e-4);
}

TEST_F(Stories260K, UnderMetasAndHuggingFacesNamesToo) {
  const TemporaryFolder temporary;
  auto model = read_llama2c<Llama>(folder / "stories260K.bin");
  const auto config = [&](const char* epsilon) {
    std::string json = config_json(model.config());
    json.replace(json.find("2e-05"), 5, epsilon);
    return temporary.write("config.json", json);
  };
  Llama metas = read_safetensors(folder / "model.meta-names.safetensors", config("1e-5"));
  expect_same_tensors(model, metas);
  EXPECT_LE(logit_error(metas), 1e-4);
  const auto path = write_safetensors(temporary / "model.safetensors", named_tensors(model, false));
  Llama hugging_face = read_safetensors(path, config("1e-5"));
  EXPECT_LE(logit_error(hugging_face), 1e-4);
  // And the test can tell: another ε, or the rows of q and k in the other order.
  EXPECT_GT(logit_error(read_safetensors(path, config("1e-6"))), 1e-3);
  Tensors wrong = named_tensors(model, false);
  const auto name = [](Index layer, const char* part) {
    return "model.layers." + std::to_string(layer) + ".self_attn." + part + "_proj.weight";
  };
  for (Index layer = 0; layer < model.config().layers; ++layer) {
    for (const char* part : {"q", "k"}) {
      Tokens& rows = wrong[name(layer, part)];
      rows = examples::pairs_side_by_side(rows, 8);
    }
  }
  write_safetensors(path, wrong);
  EXPECT_GT(logit_error(read_safetensors(path, config("1e-5"))), 1e-1);
}

}  // namespace
}  // namespace llama::test
