// SPDX-License-Identifier: MIT
// A sublayer does not say which of its linear maps read its input.
// EXPECT: tokennorm: fold_norms: a sublayer does not say which of its linear maps read its input
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
#ifdef FIXED
  const Linear sublayer;
#else
  const auto sublayer = [](const Tokens& x) { return x; };
#endif
  tokennorm::PreLNResidual connection(tokennorm::RMSNorm<float>(8), sublayer);
  tokennorm::fold_norms(connection);
}
