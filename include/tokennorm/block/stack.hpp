// SPDX-License-Identifier: MIT
/// A stack of blocks, in data order:  y = final_norm(block_{L−1}(… block_0(embedding_norm(x)) …)).
///
///     Stack(embedding_norm, std::vector<Block>, final_norm)        NoNorm{} leaves a norm out
///
/// Fusion runs across the borders: the last update of a block is added inside the step that applies
/// the first norm of the next block, or the final norm.
///
/// Shapes, error, aliasing and what throws are those of blocks.hpp, and the calls are the same.
///
///     stack.embedding_norm(), stack.blocks(), stack.final_norm()
///     visit_parameters: embedding_norm.…, blocks.N.…, final_norm.…
#pragma once

#include "tokennorm/block/blocks.hpp"

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm {

template <class EmbeddingNorm, class Block, class FinalNorm>
class Stack : public detail::BlockCalls<Stack<EmbeddingNorm, Block, FinalNorm>,
                                        typename Block::ParamScalar> {
 public:
  using Param = typename Block::ParamScalar;

  Stack(EmbeddingNorm embedding_norm, std::vector<Block> blocks, FinalNorm final_norm);

  /// Those of the first block.
  Index channels() const { return blocks_.empty() ? 0 : blocks_.front().channels(); }

  EmbeddingNorm& embedding_norm() { return embedding_norm_.norm; }
  const EmbeddingNorm& embedding_norm() const { return embedding_norm_.norm; }
  std::vector<Block>& blocks() { return blocks_; }
  const std::vector<Block>& blocks() const { return blocks_; }
  FinalNorm& final_norm() { return final_norm_.norm; }
  const FinalNorm& final_norm() const { return final_norm_.norm; }

  template <class Visitor>
  void visit_parameters(Visitor&& visitor);
  void zero_gradients();

 private:
  friend detail::BlockCalls<Stack, Param>;
  friend struct detail::Internals;

  detail::Who who() const { return {"Stack", channels()}; }

  /// f(StepNorm, NormPlace) for each norm, or NoNorm; self is const or not. Fails if there is no
  /// block.
  template <class Self, class F>
  static void each_norm(Self& self, const F& f);

  template <class S, class Result, class E>
  void infer(detail::Stream<S>& stream, const Result& result, E& executor) const;
  template <class E>
  void train(TokenMatrix<Param>& h, detail::TrainingBuffers<Param>& buffers, E& executor);
  template <class E>
  void backward_pass(TokenMatrix<Param>& dh, detail::TrainingBuffers<Param>& buffers, E& executor);

  detail::StepNorm<EmbeddingNorm> embedding_norm_;
  detail::StepNorm<FinalNorm> final_norm_;
  std::vector<Block> blocks_;  // last: GCC warns of an empty last member as uninitialized
};

template <class EmbeddingNorm, class Block, class FinalNorm>
Stack<EmbeddingNorm, Block, FinalNorm>::Stack(EmbeddingNorm embedding_norm,
                                              std::vector<Block> blocks, FinalNorm final_norm)
    : embedding_norm_(std::move(embedding_norm)),
      final_norm_(std::move(final_norm)),
      blocks_(std::move(blocks)) {
  static_assert(
      detail::trains_in<EmbeddingNorm, Param> && detail::trains_in<FinalNorm, Param>,
      "tokennorm: the norms of a Stack have parameters of different scalars. Training runs "
      "in that scalar: give them all the same.");
  this->check_channels_of_norms(who());
}

template <class EmbeddingNorm, class Block, class FinalNorm>
template <class Self, class F>
void Stack<EmbeddingNorm, Block, FinalNorm>::each_norm(Self& self, const F& f) {
  if (self.blocks_.empty()) detail::fail({"Stack"}, {"there are 0 blocks; expected 1 or more"});
  f(self.embedding_norm_, detail::NormPlace{"embedding_norm"});
  Index number = 0;
  for (auto& block : self.blocks_) Block::each_norm(block, f, number++);
  f(self.final_norm_, detail::NormPlace{"final_norm"});
}

template <class EmbeddingNorm, class Block, class FinalNorm>
template <class Visitor>
void Stack<EmbeddingNorm, Block, FinalNorm>::visit_parameters(Visitor&& visitor) {
  detail::PartsVisitor visit(visitor);
  visit("embedding_norm", embedding_norm());
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    visit("blocks." + std::to_string(i), blocks_[i]);
  }
  visit("final_norm", final_norm());
}

template <class EmbeddingNorm, class Block, class FinalNorm>
void Stack<EmbeddingNorm, Block, FinalNorm>::zero_gradients() {
  detail::zero_gradients_of(embedding_norm());
  for (Block& block : blocks_) block.zero_gradients();
  detail::zero_gradients_of(final_norm());
}

template <class EmbeddingNorm, class Block, class FinalNorm>
template <class S, class Result, class E>
void Stack<EmbeddingNorm, Block, FinalNorm>::infer(detail::Stream<S>& stream, const Result& result,
                                                   E& executor) const {
  detail::enter(stream, embedding_norm_, blocks_.front().input_norm(), executor);
  for (std::size_t i = 0; i + 1 < blocks_.size(); ++i) {
    blocks_[i].infer_from(stream, blocks_[i + 1].input_norm(), detail::Absent{}, executor);
  }
  blocks_.back().infer_from(stream, final_norm_, result, executor);
}

template <class EmbeddingNorm, class Block, class FinalNorm>
template <class E>
void Stack<EmbeddingNorm, Block, FinalNorm>::train(TokenMatrix<Param>& h,
                                                   detail::TrainingBuffers<Param>& buffers,
                                                   E& executor) {
  detail::TrainingStream<Param> stream(h);
  detail::enter_forward(stream, embedding_norm_, blocks_.front().input_norm(), buffers.normed,
                        executor);
  for (std::size_t i = 0; i + 1 < blocks_.size(); ++i) {
    blocks_[i].train_from(stream, buffers, blocks_[i + 1].input_norm(), executor);
  }
  blocks_.back().train_from(stream, buffers, final_norm_, executor);
  if constexpr (detail::is_norm<FinalNorm>) h.swap(buffers.normed);
}

template <class EmbeddingNorm, class Block, class FinalNorm>
template <class E>
void Stack<EmbeddingNorm, Block, FinalNorm>::backward_pass(TokenMatrix<Param>& dh,
                                                           detail::TrainingBuffers<Param>& buffers,
                                                           E& executor) {
  TokenMatrix<Param> dn;
  if constexpr (detail::is_norm<FinalNorm>) dh.swap(dn);  // nothing reads the stream but that norm
  blocks_.back().backward_from(dh, dn, buffers, final_norm_, executor);
  for (std::size_t i = blocks_.size() - 1; i > 0; --i) {
    blocks_[i - 1].backward_from(dh, dn, buffers, blocks_[i].input_norm(), executor);
  }
  detail::backward_step(dh, dn, embedding_norm_, blocks_.front().input_norm(), executor);
}

}  // namespace tokennorm
