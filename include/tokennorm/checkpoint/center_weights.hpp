// SPDX-License-Identifier: MIT
/// Weights that lose their mean where a LayerNorm subtracts it anyway: those of what reads the
/// norm, and those of all that writes into the residual stream, where LayerNorm becomes RMSNorm.
///
///     center_reader(norm, OutIn{wq, bq});       // the rows of W lose their mean: x̂ has none
///     const auto rms_stack = center_writers(stack, embedding, positions);  // LayerNorm → RMSNorm
///
/// A reader's norm has no parameters: fold_norm moves them into the reader first.
///
/// Centring the writers takes from each vector that is written into the residual stream its mean
/// over the channels. Every LayerNorm subtracts that mean anyway, and as it is zero then, does what
/// an RMSNorm does. Embeddings have one row for each token or position, (count, C). Sublayers say
/// which linear maps write their output:
///
///     void visit_writers(auto&& visitor) { visitor(OutIn{output_, output_bias_}); }
///
/// The embeddings are centred where they stand. An unembedding that is tied to one of them would
/// read a final norm that has γ or β with other weights: fold first (fold_norm.hpp).
///
/// Error    the arithmetic is in double for float, half and bfloat16; each result is rounded once
/// Throws   std::invalid_argument, before anything is written: where a shape does not fit; where
///          the norm of a reader is an RMSNorm or has parameters; where a reader shares memory with
///          another one, or with a writer; where a result is beyond the largest number of the
///          weight's scalar; where a sublayer names no writer; where an embedding norm writes into
///          the stream that is to be centred
/// What would change the model in any case does not compile.
/// Source   the weight processing of TransformerLens: centring of readers and of writers
#pragma once

#include "tokennorm/block/stack.hpp"
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

/// Takes from each output's weights their mean over the inputs, which a LayerNorm without
/// parameters gives no weight. Nothing is changed in what the reader computes.
template <class Norm, class... Readers>
void center_reader(const Norm& norm, Readers&&... readers);

/// Centres all that writes into the residual stream: the embeddings, in place, and the sublayers'
/// writers. The result computes what the stack did, with an RMSNorm for each LayerNorm. An
/// embedding norm may only be a LayerNorm without parameters, and stays.
template <class EmbeddingNorm, class Block, class FinalNorm, class... Embeddings>
auto center_writers(Stack<EmbeddingNorm, Block, FinalNorm> stack, Embeddings&&... embeddings);

// ---- readers ------------------------------------------------------------------------------------

namespace detail {

/// Whether the result has no mean: of a LayerNorm; known at compile time but for an AnyNorm.
template <class Norm>
inline constexpr bool may_be_centred = [] {
  if constexpr (requires { Norm::centred; }) {
    return Norm::centred;
  } else {
    return true;
  }
}();

}  // namespace detail

template <class Norm, class... Readers>
void center_reader(const Norm& norm, Readers&&... readers) {
  if constexpr (detail::check_arguments<Norm, Readers...>()) {
    static_assert(detail::may_be_centred<Norm>,
                  "tokennorm: center_reader: the result of an RMSNorm has a mean, which the "
                  "reader's mean weight multiplies: the model would change. Only what reads a "
                  "LayerNorm can be centred.");
    if (norm.kind() == NormKind::rms_norm) {
      detail::fail(detail::Internals::who(norm),
                   {"its result has a mean, which the reader's mean weight multiplies; only what "
                    "reads a LayerNorm can be centred"});
    }
    if (detail::has_parameters(norm)) {
      detail::fail(detail::Internals::who(norm),
                   {"its result has a mean, from its scale or shift; fold them into the "
                    "reader first, with fold_norm"});
    }
    detail::ReaderChecks checks(detail::Internals::who(norm));
    std::size_t number = 0;
    (checks.add_centred(norm, number++, readers), ...);
    (detail::center_lines</*of_outputs=*/true>(readers, detail::Write{}), ...);
  }
}

// ---- writers ------------------------------------------------------------------------------------

namespace detail {

/// Whether a connection with this input norm reads the same of a centred stream.
template <class Norm>
constexpr bool reads_centred() {
  constexpr bool is_known = !is_norm<Norm> || requires { Norm::centred; };
  static_assert(is_known,
                "tokennorm: center_writers: whether an AnyNorm is a LayerNorm, which becomes an "
                "RMSNorm, is known at run time only. Build the stack of LayerNorm instead.");
  if constexpr (is_norm<Norm> && is_known) {
    return Norm::centred;
  } else {
    return false;
  }
}

/// Whether the connection stays as it is when the stream and its writers are centred; where not,
/// says why.
template <class Out, class Branch>
constexpr bool check_centrable() {
  constexpr bool output_norm = is_norm<typename Branch::PostNorm>;
  constexpr bool post_ln = is_norm<Out>;
  constexpr bool centred = reads_centred<typename Branch::PreNorm>();
  constexpr bool has_writers = HasWriters<SublayerOf<Branch>>;
  static_assert(!output_norm,
                "tokennorm: center_writers: the output norm of a Sandwich-LN or residual-post-norm "
                "writes into the residual stream, and what it writes cannot be centred by centring "
                "a linear map.");
  static_assert(!post_ln,
                "tokennorm: center_writers: the norm of a Post-LN connection writes the residual "
                "stream, and what it writes cannot be centred by centring a linear map.");
  static_assert(centred || output_norm || post_ln,
                "tokennorm: center_writers: an RMSNorm reads the residual stream, and its result "
                "depends on the mean that centring takes away. Only where every reader is a "
                "LayerNorm does the model stay the same.");
  static_assert(has_writers || output_norm || post_ln,
                "tokennorm: center_writers: a sublayer does not say which of its linear maps write "
                "its output. Give it `template <class V> void visit_writers(V&& visitor)` that "
                "calls visitor(OutIn{weight, bias}) or visitor(InOut{weight, bias}) for each.");
  return !output_norm && !post_ln && centred && has_writers;
}
template <class Out, class... Branches>
constexpr bool check_centrable(const Connection<Out, Branches...>*) {
  return (static_cast<int>(check_centrable<Out, Branches>()) & ...) != 0;
}
template <class... Connections>
constexpr bool check_centrable(const Chain<Connections...>*) {
  return (static_cast<int>(check_centrable(static_cast<const Connections*>(nullptr))) & ...) != 0;
}
template <class Block>
inline constexpr bool is_centrable = check_centrable(static_cast<const Block*>(nullptr));

template <class Writer>
void check_writer(Who who, const std::string& name, Writer& writer) {
  if (outputs_of(writer) != who.channels) {
    fail(who, {name.c_str(), " has ", inputs_of(writer), " inputs and ", outputs_of(writer),
               " outputs; expected the ", who.channels,
               " channels of the stream as outputs (OutIn is W (outputs, inputs), InOut is W "
               "(inputs, outputs))"});
  }
  if (bias_size(writer) != 0 && bias_size(writer) != who.channels) {
    fail(who, {name.c_str(), "'s bias has ", bias_size(writer), " values; expected ", who.channels,
               ", or none"});
  }
  center_outputs(writer, CheckFits{who, name});
}

/// No reader that a sublayer names may change along with a writer: its norm may have parameters,
/// and what it reads then has a mean.
template <class AnyStack>
void check_unchanged_readers(ReaderChecks& checks, AnyStack& stack) {
  Internals::each_block(stack, [&](auto& block, Index i) {
    Internals::each(block, [&](auto& connection) {
      auto& branch = connection.branch();
      if constexpr (HasReaders<SublayerOf<decltype(branch)>>) {
        const std::string where = "blocks." + std::to_string(i) + "." + role_of(branch);
        std::size_t number = 0;
        unwrap(branch.f).visit_readers(
            [&](auto&& reader) { checks.add_unchanged(where, number++, reader); });
      }
    });
  });
  checks.end();
}

template <class Param, int Channels>
RMSNorm<Param, Channels> as_rms_norm(const LayerNorm<Param, Channels>& norm) {
  const LayerNormOptions& options = norm.options();
  RMSNorm<Param, Channels> result(norm.channels(), {.epsilon = options.epsilon,
                                                    .scale = options.scale,
                                                    .shift = options.shift,
                                                    .scale_offset = options.scale_offset});
  result.scale() = norm.scale();
  result.shift() = norm.shift();
  return result;
}

/// The block with an RMSNorm for each LayerNorm. A block of another kind gets an overload here.
template <class N1, class F1, class N2, class F2>
auto with_rms_norms(PreLN<N1, F1, N2, F2>&& block) {
  auto& first = block.template connection<0>().branch();
  auto& second = block.template connection<1>().branch();
  return PreLN(as_rms_norm(first.pre), std::move(first.f), as_rms_norm(second.pre),
               std::move(second.f));
}
template <class N, class F>
auto with_rms_norms(PreLNResidual<N, F>&& block) {
  auto& branch = block.template connection<0>().branch();
  return PreLNResidual(as_rms_norm(branch.pre), std::move(branch.f));
}

}  // namespace detail

template <class EmbeddingNorm, class Block, class FinalNorm, class... Embeddings>
auto center_writers(Stack<EmbeddingNorm, Block, FinalNorm> stack, Embeddings&&... embeddings) {
  constexpr bool centred_end = detail::reads_centred<FinalNorm>();
  static_assert(centred_end,
                "tokennorm: center_writers: the stack does not end in a LayerNorm, and an RMSNorm, "
                "or no norm at all, shows the mean that centring takes away.");
  static_assert(sizeof...(Embeddings) > 0 || detail::is_norm<EmbeddingNorm>,
                "tokennorm: center_writers: the embeddings write into the residual stream too: "
                "center_writers(stack, token_embedding, position_embedding).");
  if constexpr (centred_end && detail::is_centrable<Block>) {
    const detail::Who who = detail::Internals::who(stack);
    if constexpr (detail::is_norm<EmbeddingNorm>) {
      if (stack.embedding_norm().kind() == NormKind::rms_norm ||
          detail::has_parameters(stack.embedding_norm())) {
        detail::fail(who, {"center_writers: the embedding norm writes into the residual stream, "
                           "and what it writes has a mean that cannot be taken away by centring a "
                           "linear map"});
      }
    }
    (detail::check_linear_map<InOut<Embeddings>>(), ...);
    const auto each_writer = [&](const auto& f) {
      const auto visit = [&](const std::string& name, auto& writer) {
        if constexpr (detail::check_linear_map<std::remove_cvref_t<decltype(writer)>>()) {
          f(name, writer);
        }
      };
      for (std::size_t i = 0; i < stack.blocks().size(); ++i) {
        detail::Internals::each(stack.blocks()[i], [&](auto& connection) {
          auto& branch = connection.branch();
          const std::string name = "blocks." + std::to_string(i) + "." + detail::role_of(branch);
          bool any = false;
          detail::unwrap(branch.f).visit_writers([&](auto&& writer) {
            visit(name + ": a writer", writer);
            any = true;
          });
          if (!any) {
            detail::fail(who, {name.c_str(),
                               ": it names no writer of its output; expected all "
                               "linear maps that write it"});
          }
        });
      }
      [[maybe_unused]] const auto visit_embedding = [&](auto& embedding) {
        InOut writer{embedding};
        visit("an embedding", writer);
      };
      (visit_embedding(embeddings), ...);
    };
    detail::ReaderChecks checks(who);
    each_writer([&](const std::string& name, auto& writer) {
      detail::check_writer(who, name, writer);
      checks.add_writer(writer);
    });
    detail::check_unchanged_readers(checks, stack);
    each_writer(
        [](const std::string&, auto& writer) { detail::center_outputs(writer, detail::Write{}); });

    std::vector<decltype(detail::with_rms_norms(std::declval<Block>()))> blocks;
    for (Block& block : stack.blocks()) blocks.push_back(detail::with_rms_norms(std::move(block)));
    return Stack(std::move(stack.embedding_norm()), std::move(blocks),
                 detail::as_rms_norm(stack.final_norm()));
  }
}

}  // namespace tokennorm
