// SPDX-License-Identifier: MIT
// A sublayer that returns double where the stream is float.
// EXPECT: tokennorm: a sublayer returns tokens of another scalar
// EXPECT: .cast<Scalar>()
#include <tokennorm/tokennorm.hpp>

using Tokens = tokennorm::TokenMatrix<float>;

struct Sublayer {
#ifdef FIXED
  Tokens operator()(const Tokens& x) const { return x.cast<double>().cast<float>(); }
#else
  auto operator()(const Tokens& x) const { return x.cast<double>(); }
#endif
};

int main() {
  const auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), Sublayer{});
  const Tokens x = Tokens::Ones(4, 8);
  const Tokens y = block(x);
  return y.rows() == 4 ? 0 : 1;
}
