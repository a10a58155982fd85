// SPDX-License-Identifier: MIT
// Raw memory, matrices and norms go from one unit to the other. Returns 77 where the machine does
// not have what one of them is built for.
#include "unit.hpp"

#include <cstdio>

using tokennorm::TokenMatrix;

int main() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return 77;
  const TokenMatrix<float> x = TokenMatrix<float>::Random(7, 33);
  TokenMatrix<float> plain(7, 33), avx2(7, 33);
  plain_normalize(x.data(), plain.data(), 7, 33);
  avx2_normalize(x.data(), avx2.data(), 7, 33);
  const TokenMatrix<float> from_plain = avx2_use_and_delete(plain_make(33), x);
  const TokenMatrix<float> from_avx2 = plain_use_and_delete(avx2_make(33), x);
  const bool same = plain.isApprox(avx2) && from_plain.isApprox(from_avx2);
  std::puts(same ? "the same results" : "other results");
  return same ? 0 : 1;
}
