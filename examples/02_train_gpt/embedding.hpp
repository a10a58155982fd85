// SPDX-License-Identifier: MIT
/// Token and position embedding:  xₜ = E[idₜ] + P[t mod N].
///
/// Shapes     ids (T) · E (vocabulary, C) · P (N, C) · x (T, C); see sequences.hpp for T and N
/// Backward   dE[idₜ] += dxₜ    dP[t mod N] += dxₜ    (ids have no gradient)
/// Start      E, P ~ N(0, 0.2²)
/// Throws     std::invalid_argument where T does not fall into sequences of N
#pragma once

#include "parameters.hpp"
#include "sequences.hpp"

#include <span>
#include <vector>

namespace gpt {

template <class Scalar>
class Embedding {
 public:
  using Tokens = TokenMatrix<Scalar>;

  Embedding(Index vocabulary, Index context, Index channels, std::mt19937_64& rng);

  Tokens operator()(std::span<const int> ids) const;
  Tokens forward(std::span<const int> ids);
  void backward(const Tokens& dx);

  template <class Visitor>
  void visit_parameters(Visitor&& visitor);
  void zero_gradients();

  Index context() const { return position_.value.rows(); }  // N
  Tokens& token() { return token_.value; }                  // E
  Tokens& position() { return position_.value; }            // P

 private:
  Parameter<Tokens> token_;
  Parameter<Tokens> position_;
  std::vector<int> ids_;  // what forward was given
};

template <class Scalar>
Embedding<Scalar>::Embedding(Index vocabulary, Index context, Index channels, std::mt19937_64& rng)
    : token_{random_normal<Scalar>(vocabulary, channels, 0.2, rng)},
      position_{random_normal<Scalar>(context, channels, 0.2, rng)} {}

template <class Scalar>
auto Embedding<Scalar>::operator()(std::span<const int> ids) const -> Tokens {
  const auto tokens = static_cast<Index>(ids.size());
  const Index length = split_into_sequences(tokens, context()).length;
  Tokens x(tokens, token_.value.cols());
  for (Index t = 0; t < tokens; ++t) {
    x.row(t) = token_.value.row(ids[static_cast<std::size_t>(t)]) + position_.value.row(t % length);
  }
  return x;
}

template <class Scalar>
auto Embedding<Scalar>::forward(std::span<const int> ids) -> Tokens {
  ids_.assign(ids.begin(), ids.end());
  return (*this)(ids);
}

template <class Scalar>
void Embedding<Scalar>::backward(const Tokens& dx) {
  for (Index t = 0; t < dx.rows(); ++t) {
    token_.gradient.row(ids_[static_cast<std::size_t>(t)]) += dx.row(t);
    position_.gradient.row(t % context()) += dx.row(t);
  }
}

template <class Scalar>
template <class Visitor>
void Embedding<Scalar>::visit_parameters(Visitor&& visitor) {
  visitor(std::string("token"), token_.value, token_.gradient);
  visitor(std::string("position"), position_.value, position_.gradient);
}

template <class Scalar>
void Embedding<Scalar>::zero_gradients() {
  token_.zero_gradient();
  position_.zero_gradient();
}

}  // namespace gpt
