// SPDX-License-Identifier: MIT
// See half_stream.hpp.
#include "half_stream.hpp"

#include <tokennorm/tokennorm.hpp>

#include <map>
#include <stdexcept>

namespace study {

namespace {

using Eigen::half;
using HalfTokens = tokennorm::TokenMatrix<half>;

/// A sublayer in float, of which what it is given and what it gives are halves or floats.
struct RoundedSublayer {
  Sublayer f;
  const bool& rounds;

  Tokens operator()(const Tokens& x, const gpt::Sequences& sequences) const {
    if (!rounds) return f(x, sequences);
    return to_half_and_back(f(to_half_and_back(x), sequences));
  }
  void visit_parameters(const Visitor& visitor) { f.visit_parameters(visitor); }
  void zero_gradients() { f.zero_gradients(); }

 private:
  static Tokens to_half_and_back(const Tokens& x) { return x.cast<half>().cast<float>(); }
};

/// The parameters of the same name, those of the last matrix of each sublayer times the gain.
template <class Block>
void copy_parameters(CharacterModel& from, std::vector<Block>& to, float gain) {
  std::map<std::string, Tokens> values;
  from.visit_parameters([&](const std::string& name, Matrix& value, Matrix&) {
    const bool writes = name.find(".output.weight") != std::string::npos ||
                        name.find(".output.bias") != std::string::npos;
    values[name] = writes ? Tokens(gain * value) : Tokens(value);
  });
  for (std::size_t i = 0; i < to.size(); ++i) {
    to[i].visit_parameters([&](const std::string& name, auto& value, auto&) {
      const Tokens& known = values.at("blocks." + std::to_string(i) + '.' + name);
      Matrix(value.data(), value.rows(), value.cols()) = known;
    });
  }
}

template <class Block>
Index first_overflow(const std::vector<Block>& blocks, const Tokens& x,
                     const gpt::Sequences& sequences) {
  HalfTokens h = x.cast<half>();
  tokennorm::Workspace<half, float> workspace;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    blocks[i](h, h, workspace, tokennorm::with(sequences));
    if (!h.cast<float>().allFinite()) return static_cast<Index>(i) + 1;
  }
  return 0;
}

template <class MakeBlock>
std::vector<FirstOverflow> find_overflows(CharacterModel& model, const ModelShape& shape,
                                          std::span<const int> ids, double largest_gain,
                                          const MakeBlock& make_block) {
  std::mt19937_64 rng;  // these weights are replaced
  bool rounds = false;
  const auto made = [&] {
    auto [attention, feed_forward] = make_characters_sublayers(shape.channels, shape.heads, 1, rng);
    return make_block(RoundedSublayer{Sublayer(std::move(attention)), rounds},
                      RoundedSublayer{Sublayer(std::move(feed_forward)), rounds});
  };
  std::vector<decltype(made())> blocks;
  for (Index layer = 0; layer < shape.layers; ++layer) blocks.push_back(made());

  const Tokens x = model.embedded(ids);
  const auto sequences = model.sequences(ids);
  std::vector<FirstOverflow> found;
  for (double gain = 1; gain <= largest_gain; gain *= 2) {
    copy_parameters(model, blocks, static_cast<float>(gain));
    rounds = true;
    const Index half_updates = first_overflow(blocks, x, sequences);
    rounds = false;
    found.push_back({gain, half_updates, first_overflow(blocks, x, sequences)});
  }
  return found;
}

}  // namespace

std::vector<FirstOverflow> find_overflows(CharacterModel& model, Placement placement,
                                          const ModelShape& shape, std::span<const int> ids,
                                          double largest_gain) {
  const tokennorm::LayerNorm<float> norm(shape.channels);
  if (placement == Placement::pre_ln) {
    return find_overflows(model, shape, ids, largest_gain, [&](auto attention, auto feed_forward) {
      return tokennorm::PreLN(norm, std::move(attention), norm, std::move(feed_forward));
    });
  }
  if (placement == Placement::sandwich_ln) {
    return find_overflows(model, shape, ids, largest_gain, [&](auto attention, auto feed_forward) {
      return tokennorm::SandwichLN(norm, std::move(attention), norm, norm, std::move(feed_forward),
                                   norm);
    });
  }
  throw std::logic_error("study: find_overflows is of Pre-LN and Sandwich-LN");
}

}  // namespace study
