// SPDX-License-Identifier: MIT
/// Norms folded into the linear maps that read them: γ and β move into the weights, and the norm is
/// left without parameters.
///
///     W·(x̂∘(o + γ) + β) + b = W'·x̂ + b'        b' = b + W·β,  W' = W·diag(o + γ)
///
///     fold_norm(norm, OutIn{wq, bq}, OutIn{wk, bk}, OutIn{wv, bv});   // all that read the norm
///
/// A stack folds as one when its sublayers say which linear maps read their input. It is trained by
/// then; this is for inference.
///
///     void visit_readers(auto&& visitor) { visitor(OutIn{weight_, bias_}); }
///
///     TokenMatrix<float> unembedding = embedding;         // a tied one gets a matrix of its own
///     Eigen::VectorXf bias = Eigen::VectorXf::Zero(unembedding.rows());      // for the final β
///     fold_norms(stack, OutIn{unembedding, bias});
///
/// Readers are all that use the sublayer's input: what else it did with it would lose γ and β. A
/// sublayer that also has visit_writers (center_weights.hpp) is asked that no reader be a writer.
/// The final norm's reader is the unembedding. One that is tied to the embedding cannot stay so,
/// since only one of the two uses takes γ: give a copy, and keep the embedding for the input.
///
/// Error    the arithmetic is in double for float, half and bfloat16; each result is rounded once
/// Throws   std::invalid_argument, before anything is written: where a shape does not fit; where
///          the norm has a shift and a reader no bias; where a reader shares memory with another
///          one, or with a writer; where a result is beyond the largest number of the weight's
///          scalar; where a sublayer names no reader
/// What would change the model in any case does not compile.
/// Source   the weight processing of TransformerLens: folding
#pragma once

#include "tokennorm/block/stack.hpp"
#include "tokennorm/checkpoint/center_weights.hpp"  // what often follows folding
#include "tokennorm/checkpoint/folded_values.hpp"
#include "tokennorm/checkpoint/linear_map.hpp"
#include "tokennorm/checkpoint/reader_checks.hpp"
#include "tokennorm/core/internals.hpp"

#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm {

/// Moves the norm's γ and β into its readers, all of them; a norm without parameters changes none.
template <class Norm, class... Readers>
void fold_norm(Norm& norm, Readers&&... readers);

/// Folds every input norm of a block into its sublayer's readers. The output norms of a Sandwich
/// keep their parameters.
template <class... Connections>
void fold_norms(detail::Chain<Connections...>& block);

/// Folds the blocks' input norms and the final norm, whose readers are given. An embedding norm
/// keeps its parameters: it is the residual stream that reads it.
template <class EmbeddingNorm, class Block, class FinalNorm, class... Unembeddings>
void fold_norms(Stack<EmbeddingNorm, Block, FinalNorm>& stack, Unembeddings&&... unembeddings);

// ---- folding ------------------------------------------------------------------------------------

namespace detail {

/// The same norm without γ and β.
template <class Norm>
void remove_parameters(Norm& norm) {
  Internals::with_kind(norm, []<class Inside>(Inside& inside) {
    auto options = inside.options();
    options.scale = false;
    options.shift = false;
    options.scale_offset = 0;
    inside = Inside(inside.channels(), options);
  });
}

}  // namespace detail

template <class Norm, class... Readers>
void fold_norm(Norm& norm, Readers&&... readers) {
  static_assert(sizeof...(Readers) > 0,
                "tokennorm: fold_norm: there is no reader to fold the norm into. Give all linear "
                "maps that read its result: fold_norm(norm, OutIn{weight, bias}, …).");
  if constexpr (sizeof...(Readers) > 0 && detail::check_arguments<Norm, Readers...>()) {
    detail::ReaderChecks checks(detail::Internals::who(norm));
    std::size_t number = 0;
    (checks.add(norm, "", number++, readers), ...);
    if (!detail::has_parameters(norm)) return;
    (detail::fold_into(norm, readers, detail::Write{}), ...);
    detail::remove_parameters(norm);
  }
}

// ---- blocks and stacks --------------------------------------------------------------------------

namespace detail {

/// The norm that a branch of the connection reads.
auto& norm_read_by(auto& connection, auto& branch) {
  if constexpr (std::is_same_v<typename std::remove_cvref_t<decltype(branch)>::PreNorm, SameNorm>) {
    return connection.branch().pre;
  } else {
    return branch.pre;
  }
}

/// Whether a branch's norm can go into the sublayer behind it; where not, says why.
template <class Out, class Branch>
constexpr bool check_foldable() {
  constexpr bool post_ln = is_norm<Out>;
  constexpr bool pre_ln = !std::is_same_v<typename Branch::PreNorm, NoNorm> && !post_ln;
  constexpr bool has_readers = HasReaders<SublayerOf<Branch>>;
  static_assert(!post_ln,
                "tokennorm: fold_norms: the result of a Post-LN norm is the residual stream: the "
                "next sublayer reads it, and it is also added to what that sublayer gives. Folded "
                "into the sublayer alone, its parameters would be missing from the sum.");
  static_assert(
      pre_ln || post_ln,
      "tokennorm: fold_norms: the result of a residual-post-norm is added to the residual "
      "stream, which every later sublayer reads along with what others wrote. Its "
      "parameters cannot be folded into any of them.");
  static_assert(has_readers || !pre_ln,
                "tokennorm: fold_norms: a sublayer does not say which of its linear maps read its "
                "input. Give it `template <class V> void visit_readers(V&& visitor)` that calls "
                "visitor(OutIn{weight, bias}) or visitor(InOut{weight, bias}) for each.");
  return pre_ln && has_readers;
}
template <class Out, class... Branches>
constexpr bool check_foldable(const Connection<Out, Branches...>*) {
  return (static_cast<int>(check_foldable<Out, Branches>()) & ...) != 0;
}
template <class... Connections>
constexpr bool check_foldable(const Chain<Connections...>*) {
  return (static_cast<int>(check_foldable(static_cast<const Connections*>(nullptr))) & ...) != 0;
}
template <class Block>
inline constexpr bool is_foldable = check_foldable(static_cast<const Block*>(nullptr));

/// Checks what a block's folding will write; `where` is "blocks.3." or empty.
template <class Block>
void check_readers(ReaderChecks& checks, Block& block, const std::string& where) {
  Internals::each(block, [&](auto& connection) {
    connection.branches.each([&](auto& branch) {
      const std::string sublayer = where + role_of(branch);
      auto& norm = norm_read_by(connection, branch);
      std::size_t number = 0;
      unwrap(branch.f).visit_readers(
          [&](auto&& reader) { checks.add(norm, sublayer, number++, reader); });
      checks.end_of_readers(norm, sublayer, number);
      if constexpr (HasWriters<SublayerOf<decltype(branch)>>) {
        unwrap(branch.f).visit_writers([&](auto&& writer) { checks.add_writer(writer); });
      }
    });
  });
}

template <class Block>
void fold_readers(Block& block) {
  Internals::each(block, [](auto& connection) {
    connection.branches.each([&](auto& branch) {
      auto& norm = norm_read_by(connection, branch);
      if (!has_parameters(norm)) return;
      unwrap(branch.f).visit_readers([&](auto&& reader) {
        if constexpr (check_linear_map<std::remove_cvref_t<decltype(reader)>>()) {
          fold_into(norm, reader, Write{});
        }
      });
    });
    connection.branches.each([](auto& branch) {
      if constexpr (is_norm<decltype(branch.pre)>) remove_parameters(branch.pre);
    });
  });
}

}  // namespace detail

template <class... Connections>
void fold_norms(detail::Chain<Connections...>& block) {
  if constexpr (detail::is_foldable<detail::Chain<Connections...>>) {
    detail::ReaderChecks checks(detail::Internals::who(block));
    detail::check_readers(checks, block, "");
    checks.end();
    detail::fold_readers(block);
  }
}

template <class EmbeddingNorm, class Block, class FinalNorm, class... Unembeddings>
void fold_norms(Stack<EmbeddingNorm, Block, FinalNorm>& stack, Unembeddings&&... unembeddings) {
  constexpr bool has_final = detail::is_norm<FinalNorm>;
  static_assert(has_final || sizeof...(Unembeddings) == 0,
                "tokennorm: fold_norms: there is no final norm to fold into the unembedding.");
  static_assert(!has_final || sizeof...(Unembeddings) > 0,
                "tokennorm: fold_norms: the stack's final norm needs its reader: fold_norms(stack, "
                "OutIn{unembedding, bias}). One tied to the embedding needs a matrix of its own.");
  if constexpr (detail::is_foldable<Block> && has_final == (sizeof...(Unembeddings) > 0)) {
    detail::ReaderChecks checks(detail::Internals::who(stack));
    detail::Internals::each_block(stack, [&](auto& block, Index i) {
      detail::check_readers(checks, block, "blocks." + std::to_string(i) + ".");
    });
    if constexpr (has_final) {
      std::size_t number = 0;
      (checks.add(stack.final_norm(), "the unembedding", number++, unembeddings), ...);
    }
    checks.end();
    detail::Internals::each_block(stack, [](auto& block, Index) { detail::fold_readers(block); });
    if constexpr (has_final) {
      if (!detail::has_parameters(stack.final_norm())) return;
      (detail::fold_into(stack.final_norm(), unembeddings, detail::Write{}), ...);
      detail::remove_parameters(stack.final_norm());
    }
  }
}

}  // namespace tokennorm
