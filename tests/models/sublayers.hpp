// SPDX-License-Identifier: MIT
// Attention and feed-forward of trained models, in plain Eigen. What a use of them reads and writes
// goes into a Use, which with(…) gives: for its backward, and for the test to look at. So one
// sublayer may be used many times, and in a stack each block has a Use of its own.
#pragma once

#include <tokennorm/block/with.hpp>
#include <tokennorm/checkpoint/linear_map.hpp>
#include <tokennorm/checkpoint/safetensors.hpp>

#include <Eigen/Core>

#include <cmath>
#include <limits>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

namespace tokennorm::test {

template <class Scalar>
struct Use {
  using Tokens = TokenMatrix<Scalar>;

  explicit Use(Index length) : sequence_length(length) {}

  Index sequence_length;  // all tokens are sequences of so many
  struct {
    Tokens input, q, k, v, output;
    std::vector<Tokens> weights;  // of each head of the first sequence, then of the next
  } attention;
  struct {
    Tokens input, hidden, output;
  } feed_forward;
};

/// y = x·Wᵀ + b, W (outputs, inputs) as PyTorch stores it. Summed in double and rounded once: the
/// references' own float sums leave little of a tolerance for other ones. Only the input's gradient
/// is of interest.
template <class Scalar>
struct Linear {
  using Tokens = TokenMatrix<Scalar>;
  using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;

  Linear(Tokens w, Vector b) : weight(std::move(w)), bias(std::move(b)) {}
  /// Without bias in the file it is zero.
  Linear(const Safetensors& file, const std::string& name)
      : weight(file.matrix<Scalar>(name + ".weight")), bias(Vector::Zero(weight.rows())) {
    if (file.contains(name + ".bias")) bias = file.matrix<Scalar>(name + ".bias").transpose();
  }
  /// That of some of the outputs.
  Linear outputs(Index first, Index count) const {
    return {weight.middleRows(first, count), bias.segment(first, count)};
  }

  Tokens operator()(const Tokens& x) const {
    const TokenMatrix<double> sums =
        x.template cast<double>() * weight.transpose().template cast<double>();
    return (sums.rowwise() + bias.transpose().template cast<double>()).template cast<Scalar>();
  }
  Tokens backward(const Tokens& dy) const { return dy * weight; }
  auto map() { return OutIn{weight, bias}; }

  Tokens weight;
  Vector bias;
};

/// A = softmax(Q·Kᵀ / √D) for each head of each sequence, O = A·V side by side, y = out(O)
template <class Scalar>
struct Attention {
  using Tokens = TokenMatrix<Scalar>;
  enum class Sees { all, no_later_token };

  Index heads;
  Sees sees;
  Linear<Scalar> query, key, value, out;

  Tokens operator()(const Tokens& n, Use<Scalar>& use) const {
    auto& seen = use.attention;
    seen.input = n;
    seen.q = query(n);
    seen.k = key(n);
    seen.v = value(n);
    seen.weights.clear();
    Tokens o(n.rows(), n.cols());
    each_head(use, [&](const auto& of) {
      Tokens a = of(seen.q) * of(seen.k).transpose() / scale();
      if (sees == Sees::no_later_token) {
        constexpr Scalar hidden = -std::numeric_limits<Scalar>::infinity();
        for (Index i = 0; i < a.rows(); ++i) a.row(i).tail(a.cols() - 1 - i).setConstant(hidden);
      }
      a.colwise() -= a.rowwise().maxCoeff().eval();
      a = a.array().exp();
      a.array().colwise() /= a.rowwise().sum().array().eval();
      of(o) = a * of(seen.v);
      seen.weights.push_back(std::move(a));
    });
    return seen.output = out(o);
  }
  Tokens forward(const Tokens& n, Use<Scalar>& use) const { return (*this)(n, use); }

  /// dS = A∘(dA − rowsum(A∘dA)), S = Q·Kᵀ / √D
  Tokens backward(const Tokens& dy, Use<Scalar>& use) const {
    const auto& seen = use.attention;
    const Tokens d_o = out.backward(dy);
    Tokens dq(dy.rows(), dy.cols()), dk = dq, dv = dq;
    auto next = seen.weights.begin();
    each_head(use, [&](const auto& of) {
      const Tokens& a = *next++;
      Tokens ds = a.cwiseProduct(of(d_o) * of(seen.v).transpose());
      ds -= a.cwiseProduct(ds.rowwise().sum().replicate(1, a.cols()).eval());
      of(dq) = ds * of(seen.k) / scale();
      of(dk) = ds.transpose() * of(seen.q) / scale();
      of(dv) = a.transpose() * of(d_o);
    });
    return query.backward(dq) + key.backward(dk) + value.backward(dv);
  }

  // In a stack.
  Tokens operator()(const Tokens& n, std::vector<Use<Scalar>>& uses, BlockIndex block) const {
    return (*this)(n, uses[static_cast<std::size_t>(block.value)]);
  }

  void visit_readers(auto&& visitor) {
    for (Linear<Scalar>* reader : {&query, &key, &value}) visitor(reader->map());
  }
  void visit_writers(auto&& visitor) { visitor(out.map()); }

 private:
  Scalar scale() const { return std::sqrt(static_cast<Scalar>(query.bias.size() / heads)); }

  /// f(of), where of(matrix) is the part of one head and one sequence.
  template <class F>
  void each_head(const Use<Scalar>& use, const F& f) const {
    const Index length = use.sequence_length, size = query.bias.size() / heads;
    for (Index first = 0; first < use.attention.input.rows(); first += length) {
      for (Index head = 0; head < heads; ++head) {
        f([=](auto& matrix) { return matrix.block(first, head * size, length, size); });
      }
    }
  }
};

/// x·Φ(x)
struct ErfGelu {
  template <class Scalar>
  static Scalar value(Scalar x) {
    return x * (1 + std::erf(x / std::numbers::sqrt2_v<Scalar>)) / 2;
  }
  template <class Scalar>
  static Scalar slope(Scalar x) {
    const Scalar density =
        std::exp(-x * x / 2) * std::numbers::inv_sqrtpi_v<Scalar> / std::numbers::sqrt2_v<Scalar>;
    return (1 + std::erf(x / std::numbers::sqrt2_v<Scalar>)) / 2 + x * density;
  }
};
/// GPT-2's approximation of it.
struct TanhGelu {
  template <class Scalar>
  static Scalar value(Scalar x) {
    const Scalar root = std::numbers::sqrt2_v<Scalar> * std::numbers::inv_sqrtpi_v<Scalar>;
    return x * (1 + std::tanh(root * (x + static_cast<Scalar>(0.044715) * x * x * x))) / 2;
  }
};

/// y = out(gelu(in(n)))
template <class Scalar, class Gelu>
struct FeedForward {
  using Tokens = TokenMatrix<Scalar>;

  Linear<Scalar> in, out;

  Tokens operator()(const Tokens& n, Use<Scalar>& use) const {
    auto& seen = use.feed_forward;
    seen.input = n;
    seen.hidden = in(n);
    return seen.output = out(seen.hidden.unaryExpr(&Gelu::template value<Scalar>));
  }
  Tokens forward(const Tokens& n, Use<Scalar>& use) const { return (*this)(n, use); }
  Tokens backward(const Tokens& dy, Use<Scalar>& use) const {
    const Tokens slope = use.feed_forward.hidden.unaryExpr(&Gelu::template slope<Scalar>);
    return in.backward(out.backward(dy).cwiseProduct(slope));
  }

  // In a stack.
  Tokens operator()(const Tokens& n, std::vector<Use<Scalar>>& uses, BlockIndex block) const {
    return (*this)(n, uses[static_cast<std::size_t>(block.value)]);
  }

  void visit_readers(auto&& visitor) { visitor(in.map()); }
  void visit_writers(auto&& visitor) { visitor(out.map()); }
};

}  // namespace tokennorm::test
