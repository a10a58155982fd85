// SPDX-License-Identifier: MIT
// A sublayer that changes itself, in a const block.
// EXPECT: tokennorm: a sublayer cannot be called
// EXPECT: is passed by std::ref
#include <tokennorm/tokennorm.hpp>

#include <functional>

using Tokens = tokennorm::TokenMatrix<float>;

struct Counting {
  int calls = 0;
  Tokens operator()(const Tokens& x) {
    ++calls;
    return x;
  }
};

int main() {
  Counting counting;
#ifdef FIXED
  const auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), std::ref(counting));
#else
  const auto block = tokennorm::PreLNResidual(tokennorm::LayerNorm<float>(8), counting);
#endif
  const Tokens x = Tokens::Ones(4, 8);
  const Tokens y = block(x);
  return y.rows() == 4 ? 0 : 1;
}
