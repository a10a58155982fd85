// SPDX-License-Identifier: MIT
/// Token and position embedding:  xₜ = E[idₜ] + P[first + t mod N], or without positions, E[idₜ].
///
/// Shapes     ids (T) · E (vocabulary, C) · P (context, C) · x (T, C); T tokens are sequences of N,
///            see sequences.hpp. Each starts at position `first`: 0, or where a session stands
/// Backward   dE[idₜ] += dxₜ    dP[t mod N] += dxₜ    (ids have no gradient)
/// Start      E, P ~ N(0, 0.2²)
#pragma once

#include "parameters.hpp"
#include "sequences.hpp"

#include <span>

namespace gpt {

template <class Scalar>
class Embedding {
 public:
  using Tokens = TokenMatrix<Scalar>;

  /// Without positions P is empty.
  Embedding(Index vocabulary, Index context, Index channels, std::mt19937_64& rng,
            bool positions = true);

  Tokens operator()(std::span<const int> ids, Sequences sequences, Index first = 0) const;
  void backward(std::span<const int> ids, Sequences sequences, const Tokens& dx);

  template <class Visitor>
  void visit_parameters(Visitor&& visitor);
  void zero_gradients();

  Index context() const { return context_; }
  Tokens& token() { return token_.value; }  // E
  const Tokens& token() const { return token_.value; }
  Tokens& position() { return position_.value; }  // P

 private:
  bool has_positions() const { return position_.value.rows() > 0; }

  Index context_;
  Parameter<Tokens> token_;
  Parameter<Tokens> position_;
};

template <class Scalar>
Embedding<Scalar>::Embedding(Index vocabulary, Index context, Index channels, std::mt19937_64& rng,
                             bool positions)
    : context_(context),
      token_{random_normal<Scalar>(vocabulary, channels, 0.2, rng)},
      position_{random_normal<Scalar>(positions ? context : 0, channels, 0.2, rng)} {}

template <class Scalar>
auto Embedding<Scalar>::operator()(std::span<const int> ids, Sequences sequences, Index first) const
    -> Tokens {
  Tokens x(static_cast<Index>(ids.size()), token_.value.cols());
  for (Index t = 0; t < x.rows(); ++t) {
    x.row(t) = token_.value.row(ids[static_cast<std::size_t>(t)]);
    if (has_positions()) x.row(t) += position_.value.row(first + t % sequences.length);
  }
  return x;
}

template <class Scalar>
void Embedding<Scalar>::backward(std::span<const int> ids, Sequences sequences, const Tokens& dx) {
  for (Index t = 0; t < dx.rows(); ++t) {
    token_.gradient.row(ids[static_cast<std::size_t>(t)]) += dx.row(t);
    if (has_positions()) position_.gradient.row(t % sequences.length) += dx.row(t);
  }
}

template <class Scalar>
template <class Visitor>
void Embedding<Scalar>::visit_parameters(Visitor&& visitor) {
  visitor(std::string("token"), token_.value, token_.gradient);
  if (has_positions()) visitor(std::string("position"), position_.value, position_.gradient);
}

template <class Scalar>
void Embedding<Scalar>::zero_gradients() {
  token_.zero_gradient();
  position_.zero_gradient();
}

}  // namespace gpt
