// SPDX-License-Identifier: MIT
/// A stack of blocks, in data order:  y = final_norm(block_{L−1}(… block_0(embedding_norm(x)) …)).
///
///     Stack(embedding_norm, std::vector<Block>, final_norm)        NoNorm{} leaves a norm out
///     Stack(embedding_norm, std::tuple(a, b, …), final_norm)       of different types
///     Stack(embedding_norm, std::vector<std::variant<A, B>>, final_norm)
///
/// Fusion runs across the borders, also between blocks of different types: the last update of a
/// block is added inside the step that applies the first norm of the next block, or the final norm.
///
/// Shapes, error, aliasing, what throws and the sources are those of residual_connections.hpp, and
/// the calls those of blocks.hpp. A sublayer that takes a BlockIndex is given the number of its
/// block.
///
///     stack.embedding_norm(), stack.blocks(), stack.final_norm()
///     visit_parameters: embedding_norm.…, blocks.N.…, final_norm.…
#pragma once

#include "tokennorm/block/blocks.hpp"

#include <cstddef>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace tokennorm {

namespace detail {

/// What a stack's blocks are kept in, the scalar in which they are trained, and how each is
/// reached.
template <class Block>
struct BlocksOf {
  using Storage = std::vector<Block>;
  using Param = typename Block::ParamScalar;
  static std::size_t size(const Storage& blocks) { return blocks.size(); }
  static void visit(auto& blocks, std::size_t i, const auto& f) { f(blocks[i]); }
  /// f(a pointer to the type) for each type of block.
  static constexpr bool all_types(const auto& f) { return f(static_cast<Block*>(nullptr)); }
};
template <class First, class... Rest>
struct BlocksOf<std::variant<First, Rest...>> {
  using Storage = std::vector<std::variant<First, Rest...>>;
  using Param = typename First::ParamScalar;
  static_assert((std::is_same_v<typename Rest::ParamScalar, Param> && ...),
                "tokennorm: the blocks of a Stack have parameters of different scalars. Training "
                "runs in that scalar: give them all the same.");
  static std::size_t size(const Storage& blocks) { return blocks.size(); }
  static void visit(auto& blocks, std::size_t i, const auto& f) { std::visit(f, blocks[i]); }
  static constexpr bool all_types(const auto& f) {
    return f(static_cast<First*>(nullptr)) && (f(static_cast<Rest*>(nullptr)) && ...);
  }
};
template <class First, class... Rest>
struct BlocksOf<std::tuple<First, Rest...>> {
  using Storage = std::tuple<First, Rest...>;
  using Param = typename First::ParamScalar;
  static_assert((std::is_same_v<typename Rest::ParamScalar, Param> && ...),
                "tokennorm: the blocks of a Stack have parameters of different scalars. Training "
                "runs in that scalar: give them all the same.");
  static std::size_t size(const Storage&) { return 1 + sizeof...(Rest); }
  static void visit(auto& blocks, std::size_t i, const auto& f) {
    std::size_t at = 0;
    std::apply([&](auto&... block) { ((at++ == i ? f(block) : void()), ...); }, blocks);
  }
  static constexpr bool all_types(const auto& f) {
    return f(static_cast<First*>(nullptr)) && (f(static_cast<Rest*>(nullptr)) && ...);
  }
};

}  // namespace detail

/// y = final_norm(block_{L−1}(… block_0(embedding_norm(x)) …))
template <class EmbeddingNorm, class Block, class FinalNorm>
class Stack : public detail::BlockCalls<Stack<EmbeddingNorm, Block, FinalNorm>,
                                        typename detail::BlocksOf<Block>::Param> {
  using BlocksOf = detail::BlocksOf<Block>;

 public:
  /// The scalar of the parameters, and what the blocks are kept in.
  using Param = typename BlocksOf::Param;
  using Blocks = typename BlocksOf::Storage;

  /// Throws std::invalid_argument where there is no block, or where parts have other channels.
  Stack(EmbeddingNorm embedding_norm, Blocks blocks, FinalNorm final_norm);

  /// Those of the first block.
  Index channels() const;

  /// The norm before the first block, or NoNorm.
  EmbeddingNorm& embedding_norm() { return embedding_norm_; }
  const EmbeddingNorm& embedding_norm() const { return embedding_norm_; }
  /// The blocks: a std::vector or std::tuple.
  Blocks& blocks() { return blocks_; }
  const Blocks& blocks() const { return blocks_; }
  /// The norm after the last block, or NoNorm.
  FinalNorm& final_norm() { return final_norm_; }
  const FinalNorm& final_norm() const { return final_norm_; }

  /// visitor(name, value, gradient) for each parameter, of sublayers too; each once.
  template <class Visitor>
  void visit_parameters(Visitor&& visitor);
  /// Of norms, and of sublayers that have this member.
  void zero_gradients();

 private:
  friend detail::BlockCalls<Stack, Param>;
  friend struct detail::Internals;

  detail::Who who() const { return {"Stack", channels()}; }
  std::size_t size() const { return BlocksOf::size(blocks_); }

  /// f(block, number) for each block.
  static void each_block(auto& self, const auto& f) {
    for (std::size_t i = 0; i < self.size(); ++i) {
      BlocksOf::visit(self.blocks_, i, [&](auto& block) { f(block, static_cast<Index>(i)); });
    }
  }
  /// f(norm, NormPlace) for each norm; self is const or not. Fails if there is no block.
  static void each_norm(auto& self, const auto& f);
  void first_norm(const auto& f) const {
    if constexpr (detail::is_norm<EmbeddingNorm>) {
      f(embedding_norm_);
    } else if (size() > 0) {
      BlocksOf::visit(blocks_, 0, [&](const auto& block) { block.first_norm(f); });
    }
  }
  void last_norm(const auto& f) const {
    if constexpr (detail::is_norm<FinalNorm>) {
      f(final_norm_);
    } else if (size() > 0) {
      BlocksOf::visit(blocks_, size() - 1, [&](const auto& block) { block.last_norm(f); });
    }
  }
  static void each_part(Stack& self, const auto& f) {
    f(self);
    each_block(self, [&](auto& block, Index) { f(block); });
  }
  void check_parts(detail::Who who) const {
    each_block(*this, [&](const auto& block, Index) { block.check_parts(who); });
  }
  void check_trained_tokens(Index tokens) const {
    each_block(*this, [&](const auto& block, Index) { block.check_trained_tokens(tokens); });
  }
  std::size_t step_count() const {
    std::size_t steps = 0;
    each_block(*this, [&](const auto& block, Index) { steps += block.step_count(); });
    return steps;
  }

  template <class S, class U, class Context>
  static constexpr bool check_callable_in(Context* context) {
    return BlocksOf::all_types([=](auto* block) {
      return std::remove_pointer_t<decltype(block)>::template check_callable_in<S, U>(context);
    });
  }
  template <class S, class U, class Context>
  static constexpr bool check_trainable_in(Context* context) {
    return BlocksOf::all_types([=](auto* block) {
      return std::remove_pointer_t<decltype(block)>::template check_trainable_in<S, U>(context);
    });
  }

  // What reads the stream before block i, or after all.
  template <class S, class U>
  detail::StepReaders<S, U> readers(std::size_t i, detail::SavedStep<S, U>* saved) const;
  template <class S, class U>
  auto reader_gradients(std::size_t i, detail::SavedForward<S, U>& forward,
                        detail::SavedStep<S, U>& saved) -> detail::ReaderGradients<S, U, Param>;

  template <class S, class U, class Context>
  void infer(detail::Inference<S, U>& pass, const Context& context) const;
  template <class X, class S, class U, class Context>
  void train(const X& x, detail::Training<S, U>& pass, const Context& context);
  template <class S, class U, class Context>
  void backward_pass(detail::TrainingBackward<S, U, Param>& pass, const detail::TokenView<S>& dx,
                     const Context& context);
  static constexpr bool ends_in_norm = detail::is_norm<FinalNorm>;

  EmbeddingNorm embedding_norm_;
  FinalNorm final_norm_;
  Blocks blocks_;  // last: GCC warns of an empty last member as uninitialized
};

/// The types of the blocks, from what they are given in.
template <class EmbeddingNorm, class Block, class FinalNorm>
Stack(EmbeddingNorm, std::vector<Block>, FinalNorm) -> Stack<EmbeddingNorm, Block, FinalNorm>;
template <class EmbeddingNorm, class... Blocks, class FinalNorm>
Stack(EmbeddingNorm, std::tuple<Blocks...>, FinalNorm)
    -> Stack<EmbeddingNorm, std::tuple<Blocks...>, FinalNorm>;

template <class EmbeddingNorm, class Block, class FinalNorm>
Stack<EmbeddingNorm, Block, FinalNorm>::Stack(EmbeddingNorm embedding_norm, Blocks blocks,
                                              FinalNorm final_norm)
    : embedding_norm_(std::move(embedding_norm)),
      final_norm_(std::move(final_norm)),
      blocks_(std::move(blocks)) {
  static_assert(
      detail::trains_in<EmbeddingNorm, Param> && detail::trains_in<FinalNorm, Param>,
      "tokennorm: the norms of a Stack have parameters of different scalars. Training runs "
      "in that scalar: give them all the same.");
  this->check_channels_of_parts(who());
}

template <class EmbeddingNorm, class Block, class FinalNorm>
Index Stack<EmbeddingNorm, Block, FinalNorm>::channels() const {
  Index channels = 0;
  if (size() > 0) {
    BlocksOf::visit(blocks_, 0, [&](const auto& block) { channels = block.channels(); });
  }
  return channels;
}

template <class EmbeddingNorm, class Block, class FinalNorm>
void Stack<EmbeddingNorm, Block, FinalNorm>::each_norm(auto& self, const auto& f) {
  if (self.size() == 0) detail::fail({"Stack"}, {"there are 0 blocks; expected 1 or more"});
  if constexpr (detail::is_norm<EmbeddingNorm>) {
    f(self.embedding_norm_, detail::NormPlace{"", "embedding_norm"});
  }
  each_block(self, [&](auto& block, Index i) {
    std::remove_cvref_t<decltype(block)>::each_norm(block, f, i);
  });
  if constexpr (detail::is_norm<FinalNorm>) {
    f(self.final_norm_, detail::NormPlace{"", "final_norm"});
  }
}

template <class EmbeddingNorm, class Block, class FinalNorm>
template <class Visitor>
void Stack<EmbeddingNorm, Block, FinalNorm>::visit_parameters(Visitor&& visitor) {
  detail::PartsVisitor visit(visitor);
  visit("embedding_norm", embedding_norm());
  each_block(*this, [&](auto& block, Index i) { visit("blocks." + std::to_string(i), block); });
  visit("final_norm", final_norm());
}

template <class EmbeddingNorm, class Block, class FinalNorm>
void Stack<EmbeddingNorm, Block, FinalNorm>::zero_gradients() {
  detail::zero_gradients_of(embedding_norm());
  each_block(*this, [](auto& block, Index) { block.zero_gradients(); });
  detail::zero_gradients_of(final_norm());
}

template <class EmbeddingNorm, class Block, class FinalNorm>
template <class S, class U>
detail::StepReaders<S, U> Stack<EmbeddingNorm, Block, FinalNorm>::readers(
    std::size_t i, detail::SavedStep<S, U>* saved) const {
  detail::StepReaders<S, U> readers;
  if (i < size()) {
    BlocksOf::visit(blocks_, i,
                    [&](const auto& block) { readers = block.template readers<S, U>(saved); });
  } else {
    readers.last = detail::StepNorm<Accumulator<S, U>, S, S>(
        final_norm_, saved == nullptr ? nullptr : &saved->last);
  }
  return readers;
}

template <class EmbeddingNorm, class Block, class FinalNorm>
template <class S, class U>
auto Stack<EmbeddingNorm, Block, FinalNorm>::reader_gradients(std::size_t i,
                                                              detail::SavedForward<S, U>& forward,
                                                              detail::SavedStep<S, U>& saved)
    -> detail::ReaderGradients<S, U, Param> {
  detail::ReaderGradients<S, U, Param> readers;
  if (i < size()) {
    BlocksOf::visit(blocks_, i,
                    [&](auto& block) { readers = block.template reader_gradients<S, U>(saved); });
  } else if constexpr (ends_in_norm) {
    readers.last =
        detail::StepNormBackward<Accumulator<S, U>, S, S, S, Param>(final_norm_, saved.last);
    readers.dlast = detail::as_const(detail::view_of(forward.stream));
  }
  return readers;
}

template <class EmbeddingNorm, class Block, class FinalNorm>
template <class S, class U, class Context>
void Stack<EmbeddingNorm, Block, FinalNorm>::infer(detail::Inference<S, U>& pass,
                                                   const Context& context) const {
  detail::ResidualStep<S, U> step;
  step.out = detail::StepNorm<Accumulator<S, U>, S, S>(embedding_norm_);
  step.readers = readers<S, U>(0, nullptr);
  pass.run(step, false, context.executor);
  each_block(*this, [&](const auto& block, Index i) {
    Context in_block = context;
    in_block.block = i;
    const auto next = static_cast<std::size_t>(i) + 1;
    block.infer_from(pass, readers<S, U>(next, nullptr), next == size(), in_block);
  });
}

template <class EmbeddingNorm, class Block, class FinalNorm>
template <class X, class S, class U, class Context>
void Stack<EmbeddingNorm, Block, FinalNorm>::train(const X& x, detail::Training<S, U>& pass,
                                                   const Context& context) {
  detail::ResidualStep<S, U> step;
  step.out = detail::StepNorm<Accumulator<S, U>, S, S>(embedding_norm_, &pass.next().out);
  step.readers = readers<S, U>(0, &pass.next());
  pass.start(x, step, context.executor);
  each_block(*this, [&](auto& block, Index i) {
    Context in_block = context;
    in_block.block = i;
    const auto next = static_cast<std::size_t>(i) + 1;
    const auto readers_after = [&](detail::SavedStep<S, U>* saved) {
      return readers<S, U>(next, saved);
    };
    block.train_from(pass, readers_after, next == size(), in_block);
  });
}

template <class EmbeddingNorm, class Block, class FinalNorm>
template <class S, class U, class Context>
void Stack<EmbeddingNorm, Block, FinalNorm>::backward_pass(
    detail::TrainingBackward<S, U, Param>& pass, const detail::TokenView<S>& dx,
    const Context& context) {
  for (std::size_t i = size(); i > 0; --i) {
    Context in_block = context;
    in_block.block = static_cast<Index>(i) - 1;
    const auto readers_after = [&](detail::SavedStep<S, U>& saved) {
      return reader_gradients<S, U>(i, pass.saved(), saved);
    };
    BlocksOf::visit(blocks_, i - 1, [&](auto& block) {
      block.template backward_from<S, U>(pass, readers_after, in_block);
    });
  }
  detail::BackwardStep<S, U, Param> step;
  step.readers = reader_gradients<S, U>(0, pass.saved(), pass.now());
  step.out =
      detail::StepNormBackward<Accumulator<S, U>, S, S, S, Param>(embedding_norm_, pass.now().out);
  pass.run(step, dx, context.executor);
}

}  // namespace tokennorm
