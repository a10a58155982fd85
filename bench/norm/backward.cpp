// SPDX-License-Identifier: MIT
// dx and the gradients of the parameters, from x, its statistics and dy.
#include "norm/norm_case.hpp"
#include "support/suites.hpp"

namespace tokennorm::bench {
namespace {

template <class Norm>
struct Backward : NormCase<Norm, float> {
  using Base = NormCase<Norm, float>;
  static constexpr Operation operation =
      either<Norm>(Operation::layer_norm_backward, Operation::rms_norm_backward);
  static constexpr Dtype dtype = Dtype::float32;

  explicit Backward(Shape s) : Base(s), dy(s) {
    this->norm.normalize(this->x.const_view(), this->y.view(), stats);
    gradients.scale.setZero(s.channels);
    gradients.shift.setZero(Base::has_shift ? s.channels : 0);
  }

  /// dx stands in y.
  void tokennorm() {
    this->norm.backpropagate(this->x.const_view(), stats, dy.const_view(), this->y.view(),
                             gradients);
  }
  void floor() { floors::run(floor_rows(), this->shape.tokens); }
  void floor_streaming() {
    floors::run<floors::Stores::streaming>(floor_rows(), this->shape.tokens);
  }
  void floor_memcpy() = delete;  // of three operands, none of which is a copy
  Index bytes() const { return this->traffic(3); }
  static Target target(Shape s) { return backward_target(s); }
  Operands operands() {
    Operands operands = peer_operands(*this);
    operands.dy = dy.data();
    operands.mean = stats.mean.data();
    operands.rstd = stats.rstd.data();
    operands.scale_gradient = gradients.scale.data();
    operands.shift_gradient = gradients.shift.data();
    return operands;
  }

  auto floor_rows() {
    return floors::Backward<float, typename Base::AffineScale>{this->x.data(),
                                                               dy.data(),
                                                               this->y.data(),
                                                               {this->norm.scale().data(), nullptr},
                                                               this->shape.channels};
  }

  Buffer<float> dy;
  TokenStatistics<float> stats;
  NormGradients<float> gradients;
};

}  // namespace

void add_backward() {
  add_cells<Backward<LayerNorm<float>>>("layer_norm_backward", all_shapes);
  add_cells<Backward<RMSNorm<float>>>("rms_norm_backward", all_shapes);
}

}  // namespace tokennorm::bench
