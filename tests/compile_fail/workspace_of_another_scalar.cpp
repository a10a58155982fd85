// SPDX-License-Identifier: MIT
// A workspace of float for a stream of double.
// EXPECT: tokennorm: the Workspace has another scalar than x
// EXPECT: Workspace<typename X::Scalar>
#include <tokennorm/tokennorm.hpp>

int main() {
  const auto same = [](const auto& x) { return x; };
  const tokennorm::PreLNResidual block(tokennorm::LayerNorm<float>(8), same);
  const Eigen::MatrixXd x = Eigen::MatrixXd::Ones(4, 8);
  Eigen::MatrixXd y;
#ifdef FIXED
  tokennorm::Workspace<double> workspace;
#else
  tokennorm::Workspace<float> workspace;
#endif
  block(x, y, workspace);
}
