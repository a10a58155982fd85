// SPDX-License-Identifier: MIT
// What two units with different -m flags have to offer each other.
#pragma once

#include <tokennorm/tokennorm.hpp>

#include <utility>

#define DECLARE_UNIT(prefix)                                                               \
  void prefix##_normalize(const float* x, float* y, tokennorm::Index count,                \
                          tokennorm::Index channels);                                      \
  tokennorm::LayerNorm<float>* prefix##_make(tokennorm::Index channels);                   \
  tokennorm::TokenMatrix<float> prefix##_use_and_delete(tokennorm::LayerNorm<float>* norm, \
                                                        const tokennorm::TokenMatrix<float>& x)
DECLARE_UNIT(plain);
DECLARE_UNIT(avx2);
