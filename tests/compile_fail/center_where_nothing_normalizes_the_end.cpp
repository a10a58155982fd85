// SPDX-License-Identifier: MIT
// Without a final LayerNorm the result shows the mean of the stream.
// EXPECT: tokennorm: center_writers: the stack does not end in a LayerNorm
#include <tokennorm/tokennorm.hpp>

#include <vector>

using Tokens = tokennorm::TokenMatrix<float>;

struct Linear {
  Tokens weight = Tokens::Identity(8, 8);
  Tokens operator()(const Tokens& x) const { return x * weight.transpose(); }
  template <class V>
  void visit_readers(V&& visitor) {
    visitor(tokennorm::OutIn{weight});
  }
  template <class V>
  void visit_writers(V&& visitor) {
    visitor(tokennorm::OutIn{weight});
  }
};

int main() {
  const tokennorm::LayerNorm<float> norm(8);
  Tokens embedding = Tokens::Ones(50, 8);
  const std::vector blocks(2, tokennorm::PreLNResidual(norm, Linear{}));
#ifdef FIXED
  const tokennorm::Stack stack(tokennorm::NoNorm{}, blocks, norm);
#else
  const tokennorm::Stack stack(tokennorm::NoNorm{}, blocks, tokennorm::NoNorm{});
#endif
  tokennorm::center_writers(stack, embedding);
}
