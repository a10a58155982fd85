// SPDX-License-Identifier: MIT
// EXPECT: partial statistics are of the scalar of the arithmetic
// ERRORS: 1
#include <tokennorm/tokennorm.hpp>

void user(const tokennorm::LayerNorm<float>& norm, const tokennorm::TokenMatrix<float>& x) {
#ifdef FIXED
  tokennorm::PartialStatistics<float> statistics;
#else
  tokennorm::PartialStatistics<double> statistics;
#endif
  norm.partial_statistics(x, statistics);
}
