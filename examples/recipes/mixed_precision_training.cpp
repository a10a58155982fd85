// SPDX-License-Identifier: MIT
// Mixed-precision training: activations and their gradients in bfloat16 between the norms, the
// residual stream, parameters and the gradients of parameters in float. A step that is too little
// for 16 bits is then not lost.
#include <tokennorm/tokennorm.hpp>

#include <iostream>
#include <string>

using BFloat16 = Eigen::bfloat16;
using Tokens = tokennorm::TokenMatrix<float>;

struct Linear {  // y = n·W in the scalar S of the sublayers; W and dW are float
  Tokens weight = Tokens::Random(32, 32) / 4, gradient = Tokens::Zero(32, 32), input;

  template <class S>
  tokennorm::TokenMatrix<S> forward(const tokennorm::TokenMatrix<S>& n) {
    input = n.template cast<float>();
    return (input * weight).template cast<S>();
  }
  template <class S>
  tokennorm::TokenMatrix<S> backward(const tokennorm::TokenMatrix<S>& dy) {
    gradient += input.transpose() * dy.template cast<float>();
    return (dy.template cast<float>() * weight.transpose()).template cast<S>();
  }
  void visit_parameters(auto&& visitor) { visitor("weight", weight, gradient); }
};

int main() {
  const tokennorm::RMSNorm<float> norm(32);
  tokennorm::PreLN block(norm, Linear(), norm, Linear()), in_float = block;
  const Tokens x = Tokens::Random(24, 32), dy = Tokens::Random(24, 32);
  Tokens y, dx, dx_in_float;

  tokennorm::TrainingRecord<float, BFloat16> record;  // of the stream, and of the sublayers
  block.forward(x, y, record);
  block.backward(dy, dx, record);

  tokennorm::TrainingRecord<float> float_record;  // the same block, all of it in float
  in_float.forward(x, y, float_record);
  in_float.backward(dy, dx_in_float, float_record);
  const Tokens &mixed = block.attention().gradient, &exact = in_float.attention().gradient;
  const float error =
      (dx - dx_in_float).norm() / dx_in_float.norm() + (mixed - exact).norm() / exact.norm();

  const Tokens before = block.attention().weight, &after = block.attention().weight;
  block.visit_parameters([](const std::string&, auto& value, auto& gradient) {
    value -= 1e-6f * gradient;  // a parameter and its gradient are float
  });
  const auto moved = (after.array() != before.array()).count();
  const auto moved_in_16_bits =
      (after.cast<BFloat16>().array() != before.cast<BFloat16>().array()).count();

  std::cout << "dx and dW differ from those in float by " << error << "; the step moved " << moved
            << " of 1024 weights, of which 16 bits would show " << moved_in_16_bits << '\n';
  if (error > 0 && error < 0.02f && moved > 10 * moved_in_16_bits) return 0;
  std::cerr << "mixed_precision_training: the gradients are wrong, or the step was lost\n";
  return 1;
}
