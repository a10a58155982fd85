// SPDX-License-Identifier: MIT
// A Post-LN norm writes the stream itself.
// EXPECT: tokennorm: center_writers: the norm of a Post-LN connection writes the residual stream
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
#ifdef FIXED
  const std::vector blocks(2, tokennorm::PreLN(norm, Linear{}, norm, Linear{}));
#else
  const std::vector blocks(2, tokennorm::PostLN(Linear{}, norm, Linear{}, norm));
#endif
  const tokennorm::Stack stack(tokennorm::NoNorm{}, blocks, norm);
  tokennorm::center_writers(stack, embedding);
}
