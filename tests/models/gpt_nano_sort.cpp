// SPDX-License-Identifier: MIT
// A GPT that was trained to sort six digits of 0, 1 and 2, under GPT-2's names: Pre-LN, three
// layers. Its repository publishes what PyTorch computed of three inputs, activation by activation.
//
// Source   bbycroft/llm-viz; karpathy/minGPT, demo.ipynb: the model and the task
#include "../norm/norm_kinds.hpp"
#include "model_files.hpp"
#include "sublayers.hpp"
#include <tokennorm/checkpoint/center_weights.hpp>
#include <tokennorm/checkpoint/families.hpp>
#include <tokennorm/checkpoint/fold_norm.hpp>
#include <tokennorm/checkpoint/names.hpp>
#include <tokennorm/checkpoint/safetensors.hpp>
#include <tokennorm/tokennorm.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

using Tokens = TokenMatrix<float>;
using Digits = std::vector<Index>;
using Uses = std::vector<Use<float>>;

constexpr Index channels = 48, heads = 3, layers = 3, vocabulary = 3;

auto block_of(const Safetensors& file, Index layer) {
  const std::string name = "transformer.h." + std::to_string(layer) + ".";
  const Linear<float> qkv(file, name + "attn.c_attn");
  using Attend = Attention<float>;
  const LayerNorm<float> norm(channels);
  return PreLN(norm,
               Attend{heads, Attend::Sees::no_later_token, qkv.outputs(0, channels),
                      qkv.outputs(channels, channels), qkv.outputs(2 * channels, channels),
                      Linear<float>(file, name + "attn.c_proj")},
               norm,
               FeedForward<float, TanhGelu>{Linear<float>(file, name + "mlp.c_fc"),
                                            Linear<float>(file, name + "mlp.c_proj")});
}

auto stack_of(const Safetensors& file) {
  std::vector<decltype(block_of(file, 0))> blocks;
  for (Index layer = 0; layer < layers; ++layer) blocks.push_back(block_of(file, layer));
  Stack stack(NoNorm{}, std::move(blocks), LayerNorm<float>(channels));
  load_norms(stack, file, families::gpt2);
  return stack;
}

template <class AnyStack>
struct Gpt {
  /// The embeddings of sequences of one length, one behind the other.
  Tokens embed(const Digits& digits, Index length) const {
    Tokens x(static_cast<Index>(digits.size()), channels);
    for (Index t = 0; t < x.rows(); ++t) {
      x.row(t) = words.row(digits[static_cast<std::size_t>(t)]) + positions.row(t % length);
    }
    return x;
  }
  static Uses uses_of(Index length) { return Uses(layers, Use<float>(length)); }
  Tokens logits(const Digits& digits, Index length) const {
    Uses uses = uses_of(length);
    return unembedding(stack(embed(digits, length), with(uses)));
  }

  AnyStack stack;
  Tokens words, positions;
  Linear<float> unembedding;
};

auto gpt_of(const Safetensors& file) {
  return Gpt<decltype(stack_of(file))>{stack_of(file), file.matrix<float>("transformer.wte.weight"),
                                       file.matrix<float>("transformer.wpe.weight"),
                                       Linear<float>(file, "lm_head")};
}

/// γ and β of every norm go into the linear maps that read it.
template <class AnyStack>
Gpt<AnyStack> folded(Gpt<AnyStack> gpt) {
  fold_norms(gpt.stack, gpt.unembedding.map());
  return gpt;
}

/// All that writes into the residual stream loses its mean; the norms are RMSNorms.
template <class AnyStack>
auto centred(Gpt<AnyStack> gpt) {
  auto stack = center_writers(std::move(gpt.stack), gpt.words, gpt.positions);
  static_assert(std::is_same_v<std::remove_cvref_t<decltype(stack.final_norm())>, RMSNorm<float>>);
  return Gpt<decltype(stack)>{std::move(stack), std::move(gpt.words), std::move(gpt.positions),
                              std::move(gpt.unembedding)};
}

/// Four characters for three bytes.
std::string decode_base64(std::string_view text) {
  constexpr std::string_view alphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  unsigned bits = 0;
  int count = 0;
  for (const char c : text.substr(0, text.find('='))) {
    bits = bits << 6 | static_cast<unsigned>(alphabet.find(c));
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count & 0xff);
  }
  return bytes;
}

/// The activations that are published, of three sequences of eleven digits.
class Published {
 public:
  static constexpr Index length = 11;

  explicit Published(nlohmann::json json) : json_(std::move(json)) {}
  /// (3·11, C)
  Tokens operator()(const std::string& name) const {
    const auto& tensor = json_.at(name);
    return floats_of(decode_base64(tensor.at("data").get<std::string>()),
                     tensor.at("shape").back().get<Index>());
  }
  Digits input() const {
    const Tokens digits = (*this)("idx");
    Digits result;
    for (Index i = 0; i < digits.size(); ++i) {
      result.push_back(static_cast<Index>(digits(i / length, i % length)));
    }
    return result;
  }

 private:
  nlohmann::json json_;
};

class GptNanoSort : public ModelTest {
 protected:
  GptNanoSort() : ModelTest("gpt-nano-sort") {}

  Safetensors file() const { return Safetensors::open(folder / "model.safetensors"); }
  Published read_published() const {
    return Published(read_json(folder / "gpt-nano-sort-t0-partials.json"));
  }

  /// The norms where the stack applies them, and the stream between them.
  template <class AnyStack>
  void expect_published_activations(const Gpt<AnyStack>& gpt) {
    const Published published = read_published();
    const Tokens x = gpt.embed(published.input(), published.length);
    Uses uses = gpt.uses_of(published.length);
    const Tokens y = gpt.stack(x, with(uses));
    expect_near("ln1", uses[0].attention.input, published("ln1"));
    expect_near("ln2", uses[0].feed_forward.input, published("ln2"));
    expect_near("ln_f", y, published("ln_f"));
    // The published stream, or what a centred one has left of it.
    const bool is_centred = gpt.stack.final_norm().kind() == NormKind::rms_norm;
    const auto stream = [&](const std::string& name) -> Tokens {
      const Tokens h = published(name);
      if (!is_centred) return h;
      return h.colwise() - h.rowwise().mean();
    };
    Tokens h = x;
    expect_near("x", h, stream("x"));
    for (std::size_t i = 0; i < uses.size(); ++i) {
      h += uses[i].attention.output;
      if (i == 0) expect_near("attnResid", h, stream("attnResid"));
      h += uses[i].feed_forward.output;
      const std::string block = "block" + std::to_string(i);
      expect_near(block, h, stream(block));
      if (i + 1 == uses.size()) break;
      // The norms of the later layers are not published, but what they read.
      const auto& norm = gpt.stack.blocks()[i + 1].attention_norm();
      expect_near("what reads " + block, uses[i + 1].attention.input,
                  forward_oracle_of(norm, exact(stream(block))).y);
    }
  }

  template <class AnyStack>
  void expect_published_results(const Gpt<AnyStack>& gpt) {
    const Published published = read_published();
    const Tokens logits = gpt.logits(published.input(), published.length);
    Tokens probabilities = (logits.colwise() - logits.rowwise().maxCoeff()).array().exp();
    probabilities.array().colwise() /= probabilities.rowwise().sum().array().eval();
    expect_near("the logits", logits, published("lm_head"));
    expect_near("the probabilities", probabilities, published("probs"));
  }
};

TEST_F(GptNanoSort, HasTheNormsOfGPT2AndAMaskThatIsNone) {
  const Safetensors names = file();
  EXPECT_EQ(detect_family(names.names()).name, "gpt2");
  std::vector<std::string> found;
  for (const NormInFile& norm : find_norms(names, families::gpt2)) {
    EXPECT_EQ(norm.channels, channels) << norm.prefix;
    found.push_back(norm.prefix);
  }
  EXPECT_EQ(found, (std::vector<std::string>{"transformer.h.0.ln_1", "transformer.h.0.ln_2",
                                             "transformer.h.1.ln_1", "transformer.h.1.ln_2",
                                             "transformer.h.2.ln_1", "transformer.h.2.ln_2",
                                             "transformer.ln_f"}));

  // attn.bias is what each token sees, by its name the shift of a norm.
  const std::string mask = "transformer.h.0.attn";
  EXPECT_EQ(names.matrix<float>(mask + ".bias"),
            Tokens(Tokens::Ones(11, 11).triangularView<Eigen::Lower>()));
  LayerNorm<float> shift_only(11, {.scale = false});
  EXPECT_THROW(load_norm(shift_only, names, mask), std::runtime_error);
}

/// Of every input of six digits, the six that follow by the largest logits are the same in order.
/// They are all asked at once, of an input and the right answers: no token sees later ones, so that
/// as long as each answer is right, those that follow it are what a step by step run would give.
template <class AnyStack>
void expect_sorts(const Gpt<AnyStack>& gpt) {
  constexpr Index inputs = 729, count = 6, length = 2 * count - 1;
  Digits sequences;
  std::vector<Digits> answers;
  for (Index i = 0; i < inputs; ++i) {
    Digits digits;
    for (Index rest = i; std::ssize(digits) < count; rest /= vocabulary) {
      digits.push_back(rest % vocabulary);
    }
    sequences.insert(sequences.end(), digits.begin(), digits.end());
    std::sort(digits.begin(), digits.end());
    sequences.insert(sequences.end(), digits.begin(), digits.end() - 1);
    answers.push_back(std::move(digits));
  }
  const Tokens logits = gpt.logits(sequences, length);
  Index sorted = 0;
  for (Index i = 0; i < inputs; ++i) {
    Digits said;
    for (Index t = count - 1; t < length; ++t) {
      logits.row(i * length + t).maxCoeff(&said.emplace_back());
    }
    sorted += said == answers[static_cast<std::size_t>(i)];
  }
  EXPECT_EQ(sorted, inputs);
}

TEST_F(GptNanoSort, HasThePublishedActivationsAndSorts) {
  const auto gpt = gpt_of(file());
  expect_published_activations(gpt);
  expect_published_results(gpt);
  expect_sorts(gpt);
}

TEST_F(GptNanoSort, StillSortsFolded) {
  const auto gpt = folded(gpt_of(file()));
  EXPECT_EQ(gpt.stack.blocks()[2].feed_forward_norm().scale().size(), 0);
  expect_published_results(gpt);
  expect_sorts(gpt);
}

TEST_F(GptNanoSort, StillHasThePublishedActivationsAndSortsWithRMSNorms) {
  const auto gpt = centred(gpt_of(file()));
  expect_published_activations(gpt);
  expect_published_results(gpt);
  expect_sorts(gpt);
}

TEST_F(GptNanoSort, StillSortsFoldedAndCentred) {
  const auto gpt = centred(folded(gpt_of(file())));
  expect_published_results(gpt);
  expect_sorts(gpt);
}

}  // namespace
}  // namespace tokennorm::test
