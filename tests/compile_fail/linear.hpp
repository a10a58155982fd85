// SPDX-License-Identifier: MIT
// What the programs about folding and centring share: a linear sublayer that says which map reads
// and which one writes.
#pragma once

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
