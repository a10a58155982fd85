// SPDX-License-Identifier: MIT
// Runs a test at every ISA level that the machine, or TOKENNORM_ISA, allows.
#pragma once

#include <tokennorm/kernels/simd/isa.hpp>

#include <gtest/gtest.h>

#include <ostream>

namespace tokennorm {

inline void PrintTo(Isa level, std::ostream* out) {
  constexpr const char* names[] = {"baseline", "avx2", "avx512"};
  *out << names[static_cast<int>(level)];
}

namespace test {

/// Puts the level back at the end of a scope.
struct RestoreIsa {
  RestoreIsa() = default;
  RestoreIsa(const RestoreIsa&) = delete;
  RestoreIsa& operator=(const RestoreIsa&) = delete;
  ~RestoreIsa() { limit_isa(Isa::avx512); }
};

template <class Body>
void at_every_level(const Body& body) {
  const RestoreIsa restore;
  for (const Isa level : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    limit_isa(level);
    if (isa() != level) continue;
    SCOPED_TRACE(::testing::PrintToString(level));
    body();
  }
}

/// And once more without the machine's own conversion to bfloat16, if it has that.
template <class Body>
void with_every_conversion(const Body& body) {
  at_every_level(body);
  const RestoreIsa restore;
  if (isa() != Isa::avx512 || !detail::has_bfloat16()) return;
  detail::chosen_isa = static_cast<int>(Isa::avx512);
  SCOPED_TRACE("avx512, bfloat16 converted in words of integers");
  body();
}

}  // namespace test
}  // namespace tokennorm
