// SPDX-License-Identifier: MIT
// The placements, as stacks of tokennorm's: see placements.hpp for their equations.
#include "network.hpp"

#include <tokennorm/tokennorm.hpp>

#include <stdexcept>
#include <type_traits>
#include <utility>

namespace study {

namespace {

using namespace tokennorm;

template <class Stack>
class StackNetwork final : public Network {
 public:
  explicit StackNetwork(Stack stack) : stack_(std::move(stack)) {}

  Tokens operator()(const Tokens& x, const gpt::Sequences& sequences) const override {
    return stack_(x, with(sequences));
  }
  std::vector<Tokens> stream(const Tokens& x, const gpt::Sequences& sequences) const override {
    std::vector<Tokens> stream = {x};
    if constexpr (!std::is_same_v<decltype(stack_.embedding_norm()), const NoNorm&>) {
      stream.front() = stack_.embedding_norm()(x);
    }
    for (const auto& block : stack_.blocks()) {
      stream.push_back(block(stream.back(), with(sequences)));
    }
    return stream;
  }
  Tokens feed_forward(Index block, const Tokens& input,
                      const gpt::Sequences& sequences) const override {
    return stack_.blocks()[static_cast<std::size_t>(block)].feed_forward()(input, sequences);
  }

  Tokens forward(const Tokens& x, Batch& batch) override {
    batch.blocks.resize(stack_.blocks().size());
    Tokens y;
    stack_.forward(x, y, record_, with(batch));
    return y;
  }
  Tokens backward(const Tokens& dy, Batch& batch) override {
    Tokens dx;
    stack_.backward(dy, dx, record_, with(batch));
    return dx;
  }
  void visit_parameters(const Visitor& visitor) override {
    stack_.visit_parameters(as_matrices(visitor));
  }
  void zero_gradients() override { stack_.zero_gradients(); }

 private:
  Stack stack_;
  TrainingRecord<float> record_;
};

template <class EmbeddingNorm, class Block, class FinalNorm>
std::unique_ptr<Network> stack_of(EmbeddingNorm embedding_norm, std::vector<Block> blocks,
                                  FinalNorm final_norm) {
  using Made = StackNetwork<Stack<EmbeddingNorm, Block, FinalNorm>>;
  return std::make_unique<Made>(Stack(embedding_norm, std::move(blocks), final_norm));
}

}  // namespace

std::unique_ptr<Network> make_network(Placement placement, Index layers, Index channels,
                                      const std::function<Sublayers(double gain)>& make_sublayers) {
  const auto [alpha, beta] = deep_norm_scales(0, layers).decoder;
  const double gain = placement == Placement::deep_norm ? beta : 1;
  const auto blocks = [&](const auto& place) {
    std::vector<decltype(place(make_sublayers(gain)))> made;
    for (Index layer = 0; layer < layers; ++layer) made.push_back(place(make_sublayers(gain)));
    return made;
  };

  const LayerNorm<float> norm(channels);
  const auto pre = [&](Sublayers s) {
    return PreLN(norm, std::move(s.attention), norm, std::move(s.feed_forward));
  };
  const auto post = [&](Sublayers s) {
    return PostLN(std::move(s.attention), norm, std::move(s.feed_forward), norm);
  };
  const auto sandwich = [&](Sublayers s) {
    return SandwichLN(norm, std::move(s.attention), norm, norm, std::move(s.feed_forward), norm);
  };
  const auto deep = [&, a = alpha](Sublayers s) {
    return DeepNorm(std::move(s.attention), norm, std::move(s.feed_forward), norm, a);
  };
  const auto res_post = [&](Sublayers s) {
    return ResPostLN(std::move(s.attention), norm, std::move(s.feed_forward), norm);
  };

  switch (placement) {
    case Placement::pre_ln:
      return stack_of(NoNorm{}, blocks(pre), norm);
    case Placement::post_ln:
      return stack_of(norm, blocks(post), NoNorm{});
    case Placement::sandwich_ln:
      return stack_of(NoNorm{}, blocks(sandwich), norm);
    case Placement::deep_norm:
      return stack_of(norm, blocks(deep), NoNorm{});
    case Placement::res_post_ln:
      return stack_of(NoNorm{}, blocks(res_post), norm);
    case Placement::peri_ln:
      return stack_of(norm, blocks(sandwich), norm);
    case Placement::pre_ln_with_embedding_norm:
      return stack_of(norm, blocks(pre), norm);
  }
  throw std::logic_error("study: no such placement");
}

}  // namespace study
