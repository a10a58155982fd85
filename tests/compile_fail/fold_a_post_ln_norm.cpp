// SPDX-License-Identifier: MIT
// A Post-LN norm's result is the residual stream as well as the next sublayer's input.
// EXPECT: tokennorm: fold_norms: the result of a Post-LN norm is the residual stream
#include <tokennorm/tokennorm.hpp>

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
  const tokennorm::RMSNorm<float> norm(8);
#ifdef FIXED
  tokennorm::PreLN block(norm, Linear{}, norm, Linear{});
#else
  tokennorm::PostLN block(Linear{}, norm, Linear{}, norm);
#endif
  tokennorm::fold_norms(block);
}
