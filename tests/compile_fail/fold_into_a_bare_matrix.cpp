// SPDX-License-Identifier: MIT
// Whether its rows are outputs or inputs is not said.
// EXPECT: tokennorm: a reader or writer is not a linear map. Give OutIn{weight, bias} or
#include <tokennorm/tokennorm.hpp>

int main() {
  tokennorm::RMSNorm<float> norm(8);
  tokennorm::TokenMatrix<float> weight = tokennorm::TokenMatrix<float>::Ones(8, 8);
#ifdef FIXED
  tokennorm::fold_norm(norm, tokennorm::InOut{weight});
#else
  tokennorm::fold_norm(norm, weight);
#endif
}
