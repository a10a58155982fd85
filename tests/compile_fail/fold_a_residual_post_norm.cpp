// SPDX-License-Identifier: MIT
// A residual-post-norm's result goes into the stream, which every later sublayer reads.
// EXPECT: tokennorm: fold_norms: the result of a residual-post-norm is added to the residual stream
#include "linear.hpp"

#include <utility>

struct Kind {
  static constexpr const char* name = "PostNormResidual";
  static constexpr auto& names = tokennorm::detail::residual_names;
};
using Norm = tokennorm::RMSNorm<float>;
using tokennorm::NoNorm;
using PostNorm = tokennorm::detail::ResidualConnection<NoNorm, Linear, Norm, NoNorm>;

int main() {
#ifdef FIXED
  tokennorm::SandwichLNResidual block(Norm(8), Linear{}, Norm(8));
#else
  tokennorm::detail::Chain<Kind, PostNorm> block(PostNorm{NoNorm{}, Linear{}, Norm(8), NoNorm{}});
#endif
  tokennorm::fold_norms(block);
}
