// SPDX-License-Identifier: MIT
/// Loads and stores of the first n lanes where the machine has them as one instruction: float and
/// double, AVX-512 and AVX2. Through the compilers' builtins, because <immintrin.h> takes 0.3 s to
/// compile. Not always_inline: a function with a target may not be forced into a body without one;
/// both compilers inline it once that body stands in a kernel.
#pragma once

#include "tokennorm/kernels/isa.hpp"

#include <type_traits>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

template <class A, int Bytes>
inline constexpr bool has_masked_access = false;

#if defined(__x86_64__)
template <>
inline constexpr bool has_masked_access<float, 64> = true;
template <>
inline constexpr bool has_masked_access<double, 64> = true;
template <>
inline constexpr bool has_masked_access<float, 32> = true;
template <>
inline constexpr bool has_masked_access<double, 32> = true;

typedef float Float16 __attribute__((vector_size(64)));
typedef double Double8 __attribute__((vector_size(64)));
typedef float Float8 __attribute__((vector_size(32)));
typedef double Double4 __attribute__((vector_size(32)));
typedef int Int8 __attribute__((vector_size(32)));
typedef long long Long4 __attribute__((vector_size(32)));

[[gnu::target("avx512f")]] inline void masked_load(Float16& to, const float* p, int n) {
  to = __builtin_ia32_loadups512_mask(p, Float16{}, static_cast<unsigned short>((1u << n) - 1));
}
[[gnu::target("avx512f")]] inline void masked_store(float* p, const Float16& v, int n) {
  __builtin_ia32_storeups512_mask(p, v, static_cast<unsigned short>((1u << n) - 1));
}
[[gnu::target("avx512f")]] inline void masked_load(Double8& to, const double* p, int n) {
  to = __builtin_ia32_loadupd512_mask(p, Double8{}, static_cast<unsigned char>((1u << n) - 1));
}
[[gnu::target("avx512f")]] inline void masked_store(double* p, const Double8& v, int n) {
  __builtin_ia32_storeupd512_mask(p, v, static_cast<unsigned char>((1u << n) - 1));
}

[[gnu::target("avx2")]] inline void masked_load(Float8& to, const float* p, int n) {
  const Int8 mask = Int8{0, 1, 2, 3, 4, 5, 6, 7} < n;
  to = __builtin_ia32_maskloadps256(reinterpret_cast<const Float8*>(p), mask);
}
[[gnu::target("avx2")]] inline void masked_store(float* p, const Float8& v, int n) {
  const Int8 mask = Int8{0, 1, 2, 3, 4, 5, 6, 7} < n;
  __builtin_ia32_maskstoreps256(reinterpret_cast<Float8*>(p), mask, v);
}
[[gnu::target("avx2")]] inline void masked_load(Double4& to, const double* p, int n) {
  const Long4 mask = Long4{0, 1, 2, 3} < static_cast<long long>(n);
  to = __builtin_ia32_maskloadpd256(reinterpret_cast<const Double4*>(p), mask);
}
[[gnu::target("avx2")]] inline void masked_store(double* p, const Double4& v, int n) {
  const Long4 mask = Long4{0, 1, 2, 3} < static_cast<long long>(n);
  __builtin_ia32_maskstorepd256(reinterpret_cast<Double4*>(p), mask, v);
}
#endif

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
