// SPDX-License-Identifier: MIT
// A weight and a bias that are not put together to a linear map: that is said, and no more.
// EXPECT: tokennorm: a reader or writer is not a linear map. Give OutIn{weight, bias} or
// ERRORS: 2
// LINES: 40
#include <tokennorm/tokennorm.hpp>

int main() {
  tokennorm::LayerNorm<float> norm(8);
  tokennorm::TokenMatrix<float> weight = tokennorm::TokenMatrix<float>::Ones(8, 8);
  Eigen::VectorXf bias = Eigen::VectorXf::Zero(8);
#ifdef FIXED
  tokennorm::fold_norm(norm, tokennorm::OutIn{weight, bias});
#else
  tokennorm::fold_norm(norm, weight, bias);
#endif
}
