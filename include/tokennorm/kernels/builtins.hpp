// SPDX-License-Identifier: MIT
/// The few machine instructions that the vector extension has no words for: loads and stores of the
/// first n lanes, conversions, fused multiplication and addition, square roots, the signs of the
/// lanes. Through the compilers' builtins, because <immintrin.h> takes 0.3 s to compile. Not
/// always_inline: a function with a target may not be forced into a body without one; both
/// compilers inline it once that body stands in a kernel.
#pragma once

#include "tokennorm/kernels/isa.hpp"

#include <cmath>
#include <type_traits>

namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {

template <class A, int Bytes>
inline constexpr bool has_masked_access = false;

typedef double Double2 __attribute__((vector_size(16)));

#if defined(__x86_64__)
template <>
inline constexpr bool has_masked_access<float, 64> = true;
template <>
inline constexpr bool has_masked_access<double, 64> = true;
template <>
inline constexpr bool has_masked_access<float, 32> = true;
template <>
inline constexpr bool has_masked_access<double, 32> = true;
template <>
inline constexpr bool has_masked_access<short, 32> = true;

typedef float Float16 __attribute__((vector_size(64)));
typedef double Double8 __attribute__((vector_size(64)));
typedef float Float4 __attribute__((vector_size(16)));
typedef float Float8 __attribute__((vector_size(32)));
typedef double Double4 __attribute__((vector_size(32)));
typedef short Half8 __attribute__((vector_size(16)));
typedef short Half16 __attribute__((vector_size(32)));
typedef short Half32 __attribute__((vector_size(64)));
typedef char Char32 __attribute__((vector_size(32)));
typedef int Int16 __attribute__((vector_size(64)));
typedef int Int8 __attribute__((vector_size(32)));
typedef long long Long2 __attribute__((vector_size(16)));
typedef long long Long4 __attribute__((vector_size(32)));

// What the compilers call the type of a mask, and of the memory of halves.
#if defined(__clang__)
typedef unsigned short mask16;
typedef Half16 Memory16;
#else
typedef short mask16;
typedef short Memory16;
#endif

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

[[gnu::target("avx512bw,avx512vl")]] inline void masked_load(Half16& to, const short* p, int n) {
  to = __builtin_ia32_loaddquhi256_mask(reinterpret_cast<const Memory16*>(p), Half16{},
                                        static_cast<unsigned short>((1u << n) - 1));
}
[[gnu::target("avx512bw,avx512vl")]] inline void masked_store(short* p, const Half16& v, int n) {
  __builtin_ia32_storedquhi256_mask(reinterpret_cast<Memory16*>(p), v,
                                    static_cast<unsigned short>((1u << n) - 1));
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

#if !defined(__clang__)
// From here on the optimizer knows nothing of v. (Not in a body without the target: a copy of it
// that is not inlined, as -finstrument-functions makes it, has no register for v.)
[[gnu::target("avx512f")]] inline void hide(Float16& v) { asm("" : "+v"(v)); }
[[gnu::target("avx512f")]] inline void hide(Double8& v) { asm("" : "+v"(v)); }
[[gnu::target("avx2")]] inline void hide(Float8& v) { asm("" : "+v"(v)); }
[[gnu::target("avx2")]] inline void hide(Double4& v) { asm("" : "+v"(v)); }
template <class V>
TOKENNORM_INLINE void hide(V& v) {
  asm("" : "+v"(v));
}

// GCC 12 converts wide vectors in halves and puts them together.
[[gnu::target("avx512f")]] inline void widen(Double8& to, const Float8& from) {
  to = __builtin_ia32_cvtps2pd512_mask(from, Double8{}, static_cast<char>(-1), 4);
}
[[gnu::target("avx2")]] inline void widen(Double4& to, const Float4& from) {
  to = __builtin_ia32_cvtps2pd256(from);
}
[[gnu::target("avx512f")]] inline void narrow(Half16& to, const Int16& from) {
  to = __builtin_ia32_pmovdw512_mask(from, Half16{}, 0xffff);
}
[[gnu::target("avx2")]] inline void narrow(Half8& to, const Int8& from) {
  to = __builtin_ia32_packusdw128(__builtin_shufflevector(from, from, 0, 1, 2, 3),
                                  __builtin_shufflevector(from, from, 4, 5, 6, 7));
}
#endif

[[gnu::target("avx2,f16c")]] inline void widen(Float8& to, const Half8& from) {
  to = __builtin_ia32_vcvtph2ps256(from);
}
[[gnu::target("avx2,f16c")]] inline void narrow(Half8& to, const Float8& from) {
  to = __builtin_ia32_vcvtps2ph256(from, 0);  // to nearest even
}
[[gnu::target("avx512f")]] inline void widen(Float16& to, const Half16& from) {
  to = __builtin_ia32_vcvtph2ps512_mask(from, Float16{}, static_cast<mask16>(-1), 4);
}
[[gnu::target("avx512f")]] inline void narrow(Half16& to, const Float16& from) {
  to = __builtin_ia32_vcvtps2ph512_mask(from, 0, Half16{}, 0xffff);
}
// bfloat16 to float: the words, each with a zero below it, by one shuffle. (The vector extension's
// conversion and shift are two instructions.)
[[gnu::target(TOKENNORM_AVX512_TARGET)]] inline void widen_from_bfloat16(Float16& to,
                                                                         const Half16& from) {
  const Half32 order = {16, 0, 16, 1, 16, 2,  16, 3,  16, 4,  16, 5,  16, 6,  16, 7,
                        16, 8, 16, 9, 16, 10, 16, 11, 16, 12, 16, 13, 16, 14, 16, 15};
#if defined(__clang__)
  // Clang makes a slower shuffle, of two vectors, of the builtin.
  const Half32 words =
      __builtin_shufflevector(from, Half16{}, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15,
                              16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
  asm("vpermw {%1, %2, %0|%0, %2, %1}" : "=v"(to) : "v"(words), "v"(order));
#else
  const auto words = reinterpret_cast<Half32>(
      __builtin_ia32_si512_256si(reinterpret_cast<Int8>(from)));  // the upper half is undefined
  to = reinterpret_cast<Float16>(
      __builtin_ia32_permvarhi512_mask(words, order, Half32{}, 0xaaaaaaaa));
#endif
}
[[gnu::target("avx2")]] inline void widen_from_bfloat16(Float8& to, const Half8& from) {
  const Char32 order = {-1, -1, 0, 1, -1, -1, 2,  3,  -1, -1, 4,  5,  -1, -1, 6,  7,
                        -1, -1, 8, 9, -1, -1, 10, 11, -1, -1, 12, 13, -1, -1, 14, 15};
#if defined(__clang__)
  const auto twice =
      __builtin_shufflevector(from, from, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
#else
  const auto twice = __builtin_ia32_vbroadcastsi256(reinterpret_cast<Long2>(from));  // as it loads
#endif
  to = reinterpret_cast<Float8>(__builtin_ia32_pshufb256(reinterpret_cast<Char32>(twice), order));
}

// To nearest even, NaN kept, but a float below the normal ones becomes zero. Only where
// detail::has_bfloat16(): the kernels may not have the target that the builtin asks for. Clang
// inlines an asm with vectors only where caller and callee have the same one.
[[gnu::target(TOKENNORM_AVX512_TARGET)]] inline void narrow_to_bfloat16(Half16& to,
                                                                        const Float16& from) {
  asm("vcvtneps2bf16 {%1, %0|%0, %1}" : "=v"(to) : "v"(from));
}
// The same of two vectors, for the time of one.
[[gnu::target(TOKENNORM_AVX512_TARGET)]] inline void narrow_to_bfloat16(Half32& to,
                                                                        const Float16& low,
                                                                        const Float16& high) {
  asm("vcvtne2ps2bf16 {%1, %2, %0|%0, %2, %1}" : "=v"(to) : "v"(low), "v"(high));
}

// A store that leaves the caches alone; p is aligned to the size of v.
#if !defined(__clang__)
[[gnu::target("avx512f")]] inline void stream(float* p, const Float16& v) {
  __builtin_ia32_movntps512(p, v);
}
[[gnu::target("avx2")]] inline void stream(float* p, const Float8& v) {
  __builtin_ia32_movntps256(p, v);
}
TOKENNORM_INLINE void stream(float* p, const Float4& v) { __builtin_ia32_movntps(p, v); }
#endif
/// Orders streamed stores before what follows.
TOKENNORM_INLINE void finish_streaming() { __builtin_ia32_sfence(); }

// c ← a·b + c in one rounding. Left to themselves the compilers contract here and not there, and
// the same token would get different bits.
[[gnu::target("avx512f")]] inline void fuse(const Float16& a, const Float16& b, Float16& c) {
  c = __builtin_ia32_vfmaddps512_mask(a, b, c, static_cast<mask16>(-1), 4);
}
[[gnu::target("avx512f")]] inline void fuse(const Double8& a, const Double8& b, Double8& c) {
  c = __builtin_ia32_vfmaddpd512_mask(a, b, c, 0xff, 4);
}
[[gnu::target("avx2,fma")]] inline void fuse(const Float8& a, const Float8& b, Float8& c) {
  c = __builtin_ia32_vfmaddps256(a, b, c);
}
[[gnu::target("avx2,fma")]] inline void fuse(const Double4& a, const Double4& b, Double4& c) {
  c = __builtin_ia32_vfmaddpd256(a, b, c);
}

[[gnu::target("fma")]] inline void fuse(const Double2& a, const Double2& b, Double2& c) {
  c = __builtin_ia32_vfmaddpd(a, b, c);
}
#if defined(__FMA__)  // in a build for machines that have it, the baseline too
inline void fuse(const Float4& a, const Float4& b, Float4& c) {
  c = __builtin_ia32_vfmaddps(a, b, c);
}
#endif

[[gnu::target("avx2")]] inline void square_root(Double4& v) { v = __builtin_ia32_sqrtpd256(v); }
TOKENNORM_INLINE void square_root(Double2& v) { v = __builtin_ia32_sqrtpd(v); }

/// Bit i is set where the sign of lane i is, as in every lane of a mask that is set.
[[gnu::target("avx2")]] inline void sign_bits(unsigned& bits, const Double4& v) {
  bits = static_cast<unsigned>(__builtin_ia32_movmskpd256(v));
}
TOKENNORM_INLINE void sign_bits(unsigned& bits, const Double2& v) {
  bits = static_cast<unsigned>(__builtin_ia32_movmskpd(v));
}
#else
TOKENNORM_INLINE void finish_streaming() {}
TOKENNORM_INLINE void square_root(Double2& v) { v = Double2{std::sqrt(v[0]), std::sqrt(v[1])}; }
TOKENNORM_INLINE void sign_bits(unsigned& bits, const Double2& v) {
  bits = (std::signbit(v[0]) ? 1u : 0u) | (std::signbit(v[1]) ? 2u : 0u);
}
#endif

}  // namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH
