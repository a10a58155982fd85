// SPDX-License-Identifier: MIT
/// A norm with random parameters and its operands, for the cases of this folder.
#pragma once

#include "floors/floors.hpp"
#include "support/buffers.hpp"
#include "support/cell.hpp"
#include <tokennorm/norm/layer_norm.hpp>
#include <tokennorm/norm/rms_norm.hpp>

#include <cstring>

namespace tokennorm::bench {

enum class Form { affine, folded };

/// y = norm(x)
template <class Norm, class Scalar_, Form form = Form::affine>
struct NormCase {
  using Scalar = Scalar_;
  using Param = typename Norm::ParamScalar;
  static constexpr bool has_scale = form == Form::affine;
  static constexpr bool has_shift = has_scale && Norm::centred;
  using Affine = floors::Affine<Param, has_scale, has_shift>;
  using AffineScale = floors::Affine<Param, has_scale, false>;

  explicit NormCase(Shape s)
      : shape(s),
        norm(with_random_parameters(Norm(s.channels, {.scale = has_scale, .shift = has_shift}))),
        x(s),
        y(s) {}

  void tokennorm() { norm(x.const_view(), y.view()); }
  void floor() { floors::run(floor_rows(), shape.tokens); }
  void floor_streaming() {
    floors::run<floors::Stores::streaming>(floors::Copy<Scalar>{x.data(), y.data(), shape.channels},
                                           shape.tokens);
  }
  void floor_memcpy() {
    std::memcpy(static_cast<void*>(y.data()), x.data(),
                static_cast<std::size_t>(shape.size()) * sizeof(Scalar));
  }
  Index bytes() const { return traffic(2); }
  static Target target(Shape s) {
    return forward_target<Scalar>(s, 2 * s.size() * Index{sizeof(Scalar)});
  }

  auto floor_rows() {
    return floors::Norm<Scalar, Affine>{x.data(), y.data(), affine(), shape.channels};
  }
  Affine affine() const { return {norm.scale().data(), norm.shift().data()}; }
  /// Of so many operands.
  Index traffic(int operand_count) const {
    return operand_count * shape.size() * Index{sizeof(Scalar)};
  }

  Shape shape;
  Norm norm;
  Buffer<Scalar> x, y;
};

/// What the peers are given of such a case, for `Operation::layer_norm` or its RMSNorm sibling.
template <class Case>
Operands peer_operands(Case& data) {
  Operands operands{};
  operands.operation = Case::operation;
  operands.dtype = Case::dtype;
  operands.tokens = data.shape.tokens;
  operands.channels = data.shape.channels;
  operands.epsilon = data.norm.options().epsilon;
  operands.x = data.x.data();
  operands.y = data.y.data();
  operands.scale = data.norm.scale().data();
  operands.shift = data.norm.shift().data();
  return operands;
}

template <class Norm>
constexpr Operation either(Operation layer_norm, Operation rms_norm) {
  return Norm::centred ? layer_norm : rms_norm;
}

}  // namespace tokennorm::bench
