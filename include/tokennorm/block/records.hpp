// SPDX-License-Identifier: MIT
/// What a caller keeps for a block: the buffers of its inference, and the record of a training.
#pragma once

#include "tokennorm/norm/backward_step.hpp"

#include <array>
#include <vector>

namespace tokennorm {

namespace detail {

/// What a step leaves for its backward.
template <class S, class U>
struct SavedStep {
  using A = Accumulator<S, U>;
  struct Update {
    TokenMatrix<U> given, posted;  // what the norm on the update was given, and what it gave
    SavedNorm<A> post, learned;
    Eigen::Matrix<A, Eigen::Dynamic, 1> token_factors, ones;
  };
  TokenMatrix<S> sum;     // what `out` was given
  TokenMatrix<S> stream;  // what the norms that read it were given
  SavedNorm<A> out, last;
  std::array<SavedNorm<A>, 2> pre;
  std::array<Update, 2> updates;
};

/// What a forward leaves: the steps are those between its sublayers, the first before the first.
template <class S, class U>
struct SavedForward {
  bool has_forward = false;
  Index tokens = 0, channels = 0;
  std::vector<SavedStep<S, U>> steps;
  TokenMatrix<S> stream;  // h where no norm saves it
  TokenMatrix<S> dh;
  std::array<TokenMatrix<U>, 2> normed, update;  // n and u, and their gradients
};

}  // namespace detail

/// The buffers of a block's inference. Kept between calls of the same shape, it saves their
/// allocation; it may serve any number of blocks in turn, but only one call at a time. The stream
/// has Scalar; the sublayers are given, and give, tokens of SublayerScalar.
template <class Scalar, class SublayerScalar = Scalar>
struct Workspace {
  TokenMatrix<Scalar> stream;                 ///< h, between the sublayers
  TokenMatrix<SublayerScalar> normed;         ///< n, the input of a sublayer
  TokenMatrix<SublayerScalar> update;         ///< the result of a sublayer
  TokenMatrix<SublayerScalar> second_normed;  ///< n of a second one beside it
  TokenMatrix<SublayerScalar> second_update;  ///< and its result
};

/// What the backward of one forward needs, and the memory of both: several may be in flight, for
/// micro-batches or for a module that is used twice, and nothing is allocated while the shape stays
/// the same. A copy is one of its own. The stream has Scalar; the sublayers are given, and give,
/// tokens of SublayerScalar. Parameters and their gradients keep theirs. What a sublayer remembers
/// is the sublayer's: of several in flight, each brings a place for it, by with(…).
///
/// Where a sublayer or an executor throws, the block stays usable, and there is no forward to go
/// back from any more: one that threw, or was refused, is none, and a backward that threw has used
/// its own up. That backward has added to some gradients of norms all it had to add, and to others
/// nothing: zero them, and begin anew. Forwards and backwards of one block take turns: in parallel
/// they would add to the same gradients.
///
///     TrainingRecord<float> record;
///     block.forward(x, y, record);   block.backward(dy, dx, record);
template <class Scalar, class SublayerScalar = Scalar>
class TrainingRecord {
 public:
  /// Whether there is a forward to go back from.
  bool has_forward() const { return saved_.has_forward; }

 private:
  friend struct detail::Internals;
  detail::SavedForward<Scalar, SublayerScalar> saved_;
};

}  // namespace tokennorm
