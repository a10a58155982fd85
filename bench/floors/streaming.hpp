// SPDX-License-Identifier: MIT
/// Stores that pass by the cache, of whole vectors at addresses that are multiples of their size;
/// where the machine or the type has none, plain stores.
#pragma once

#include <cstring>

namespace tokennorm::bench::floors {

template <class T, class Native>
[[gnu::always_inline]] inline void stream(T* p, const Native& v) {
#if defined(__clang__)
  __builtin_nontemporal_store(v, reinterpret_cast<Native*>(p));
#else
  std::memcpy(p, &v, sizeof(v));
#endif
}

#if defined(__x86_64__) && !defined(__clang__)
// Not always_inline: see tokennorm/kernels/masked.hpp.
typedef float Float16 __attribute__((vector_size(64)));
typedef float Float8 __attribute__((vector_size(32)));
typedef float Float4 __attribute__((vector_size(16)));

[[gnu::target("avx512f")]] inline void stream(float* p, const Float16& v) {
  __builtin_ia32_movntps512(p, v);
}
[[gnu::target("avx")]] inline void stream(float* p, const Float8& v) {
  __builtin_ia32_movntps256(p, v);
}
inline void stream(float* p, const Float4& v) { __builtin_ia32_movntps(p, v); }
#endif

/// Orders streamed results before what follows.
inline void fence() {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}

}  // namespace tokennorm::bench::floors
