// SPDX-License-Identifier: MIT
// The output is a map of const memory.
// EXPECT: tokennorm: an output cannot be written to
#include <tokennorm/tokennorm.hpp>

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(4, 8);
#ifdef FIXED
  float memory[32] = {};
#else
  const float memory[32] = {};
#endif
  norm(x, tokennorm::tokens(memory, 8));
}
