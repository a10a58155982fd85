// SPDX-License-Identifier: MIT
// sum = residual + update, y = norm(sum), both stored.
#include "norm/norm_case.hpp"
#include "support/suites.hpp"

namespace tokennorm::bench {
namespace {

/// The residual stands in x.
template <class Norm>
struct ResidualAdd : NormCase<Norm, float> {
  using Base = NormCase<Norm, float>;
  static constexpr Operation operation =
      either<Norm>(Operation::layer_norm_residual_add, Operation::rms_norm_residual_add);
  static constexpr Dtype dtype = Dtype::float32;

  explicit ResidualAdd(Shape s) : Base(s), update(s), sum(s) {}

  void tokennorm() {
    this->norm.normalize_sum(this->x.const_view(), update.const_view(), sum.view(), this->y.view());
  }
  void floor() { floors::run(floor_rows(), this->shape.tokens); }
  void floor_streaming() {
    floors::run<floors::Stores::streaming>(floor_rows(), this->shape.tokens);
  }
  void floor_memcpy() = delete;  // of four operands, none of which is a copy
  Index bytes() const { return this->traffic(4); }
  static Target target(Shape s) {
    return forward_target<float>(s, 4 * s.size() * Index{sizeof(float)});
  }
  Operands operands() {
    Operands operands = peer_operands(*this);
    operands.update = update.data();
    operands.sum = sum.data();
    return operands;
  }

  auto floor_rows() {
    return floors::AddNorm<float, typename Base::Affine>{this->x.data(), update.data(),
                                                         sum.data(),     this->y.data(),
                                                         this->affine(), this->shape.channels};
  }

  Buffer<float> update, sum;
};

}  // namespace

void add_residual_add() {
  add_cells<ResidualAdd<LayerNorm<float>>>("layer_norm_residual_add", all_shapes);
  add_cells<ResidualAdd<RMSNorm<float>>>("rms_norm_residual_add", all_shapes);
}

}  // namespace tokennorm::bench
