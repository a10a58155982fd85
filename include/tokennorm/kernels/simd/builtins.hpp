// SPDX-License-Identifier: MIT
/// The few machine instructions that the vector extension has no words for: loads and stores of the
/// first n lanes, conversions, fused multiplication and addition, square roots, the signs of the
/// lanes. Through the compilers' builtins, because <immintrin.h> takes 0.3 s to compile, or in
/// assembly where a compiler may have dropped them. Not always_inline: a function with a target may
/// not be forced into a body without one; both compilers inline it once that body stands in a
/// kernel.
#pragma once

#include "tokennorm/kernels/simd/isa.hpp"

#include <cmath>
#include <type_traits>

// A target's builtins cannot be asked for: __has_builtin knows the target of the command line and
// not that of a function. GCC keeps them; Clang drops some in each version from 22 on. (Assembly is
// not for all: no load becomes part of it, and Clang 14 inlines it only where caller and callee
// have the same target.)
#if defined(TOKENNORM_NO_BUILTINS) || (defined(__clang__) && __clang_major__ >= 22)
#define TOKENNORM_TARGET_BUILTINS 0
#else
#define TOKENNORM_TARGET_BUILTINS 1
#endif

TOKENNORM_BEGIN_KERNELS

template <class A, int Bytes>
inline constexpr bool has_masked_access = false;

typedef float Float4 __attribute__((vector_size(16)));
typedef double Double2 __attribute__((vector_size(16)));

#if defined(__SANITIZE_ADDRESS__)
#define TOKENNORM_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TOKENNORM_ADDRESS_SANITIZER 1
#endif
#endif

#if defined(__x86_64__)
#if !defined(TOKENNORM_ADDRESS_SANITIZER)  // which does not see what assembly reads and writes
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
#endif

typedef float Float16 __attribute__((vector_size(64)));
typedef double Double8 __attribute__((vector_size(64)));
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

// ---- memory -------------------------------------------------------------------------------------

/// The memory of a vector as an operand: bytes, which may be those of any type.
template <class V>
TOKENNORM_INLINE auto& memory_of(const void* p) {
  return *static_cast<const char(*)[sizeof(V)]>(p);
}
template <class V>
TOKENNORM_INLINE auto& memory_of(void* p) {
  return *static_cast<char(*)[sizeof(V)]>(p);
}

// The first n lanes; nothing behind them is touched.
[[gnu::target(TOKENNORM_AVX512_TARGET)]] inline void masked_load(Float16& to, const void* p,
                                                                 int n) {
  asm("vmovups {%1, %0%{%2%}%{z%}|%0%{%2%}%{z%}, %1}"
      : "=v"(to)
      : "m"(memory_of<Float16>(p)), "Yk"((1u << n) - 1));
}
[[gnu::target(TOKENNORM_AVX512_TARGET)]] inline void masked_store(void* p, const Float16& v,
                                                                  int n) {
  asm("vmovups {%1, %0%{%2%}|%0%{%2%}, %1}"
      : "+m"(memory_of<Float16>(p))
      : "v"(v), "Yk"((1u << n) - 1));
}
[[gnu::target(TOKENNORM_AVX512_TARGET)]] inline void masked_load(Double8& to, const void* p,
                                                                 int n) {
  asm("vmovupd {%1, %0%{%2%}%{z%}|%0%{%2%}%{z%}, %1}"
      : "=v"(to)
      : "m"(memory_of<Double8>(p)), "Yk"((1u << n) - 1));
}
[[gnu::target(TOKENNORM_AVX512_TARGET)]] inline void masked_store(void* p, const Double8& v,
                                                                  int n) {
  asm("vmovupd {%1, %0%{%2%}|%0%{%2%}, %1}"
      : "+m"(memory_of<Double8>(p))
      : "v"(v), "Yk"((1u << n) - 1));
}
[[gnu::target(TOKENNORM_AVX512_TARGET)]] inline void masked_load(Half16& to, const void* p, int n) {
  asm("vmovdqu16 {%1, %0%{%2%}%{z%}|%0%{%2%}%{z%}, %1}"
      : "=v"(to)
      : "m"(memory_of<Half16>(p)), "Yk"((1u << n) - 1));
}
[[gnu::target(TOKENNORM_AVX512_TARGET)]] inline void masked_store(void* p, const Half16& v, int n) {
  asm("vmovdqu16 {%1, %0%{%2%}|%0%{%2%}, %1}"
      : "+m"(memory_of<Half16>(p))
      : "v"(v), "Yk"((1u << n) - 1));
}
[[gnu::target(TOKENNORM_AVX2_TARGET)]] inline void masked_load(Float8& to, const void* p, int n) {
  const Int8 mask = Int8{0, 1, 2, 3, 4, 5, 6, 7} < n;
  asm("vmaskmovps {%1, %2, %0|%0, %2, %1}" : "=x"(to) : "m"(memory_of<Float8>(p)), "x"(mask));
}
[[gnu::target(TOKENNORM_AVX2_TARGET)]] inline void masked_store(void* p, const Float8& v, int n) {
  const Int8 mask = Int8{0, 1, 2, 3, 4, 5, 6, 7} < n;
  asm("vmaskmovps {%1, %2, %0|%0, %2, %1}" : "+m"(memory_of<Float8>(p)) : "x"(v), "x"(mask));
}
[[gnu::target(TOKENNORM_AVX2_TARGET)]] inline void masked_load(Double4& to, const void* p, int n) {
  const Long4 mask = Long4{0, 1, 2, 3} < static_cast<long long>(n);
  asm("vmaskmovpd {%1, %2, %0|%0, %2, %1}" : "=x"(to) : "m"(memory_of<Double4>(p)), "x"(mask));
}
[[gnu::target(TOKENNORM_AVX2_TARGET)]] inline void masked_store(void* p, const Double4& v, int n) {
  const Long4 mask = Long4{0, 1, 2, 3} < static_cast<long long>(n);
  asm("vmaskmovpd {%1, %2, %0|%0, %2, %1}" : "+m"(memory_of<Double4>(p)) : "x"(v), "x"(mask));
}

#if !TOKENNORM_HAS_BUILTIN(__builtin_nontemporal_store)
// A store that leaves the caches alone; p is aligned to the size of v.
[[gnu::target("avx512f")]] inline void stream(void* p, const Float16& v) {
  asm("vmovntps {%1, %0|%0, %1}" : "=m"(memory_of<Float16>(p)) : "v"(v));
}
[[gnu::target("avx2")]] inline void stream(void* p, const Float8& v) {
  asm("vmovntps {%1, %0|%0, %1}" : "=m"(memory_of<Float8>(p)) : "v"(v));
}
TOKENNORM_INLINE void stream(void* p, const Float4& v) {
  asm("movntps {%1, %0|%0, %1}" : "=m"(memory_of<Float4>(p)) : "x"(v));
}
#endif
/// Orders streamed stores before what follows.
TOKENNORM_INLINE void finish_streaming() { asm volatile("sfence" : : : "memory"); }

// ---- conversions --------------------------------------------------------------------------------

#if TOKENNORM_TARGET_BUILTINS
#if defined(__clang__)
typedef unsigned short mask16;  // what the compilers call the type of a mask
#else
typedef short mask16;

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
#else
#if !defined(__clang__)
[[gnu::target("avx512f")]] inline void widen(Double8& to, const Float8& from) {
  asm("vcvtps2pd {%1, %0|%0, %1}" : "=v"(to) : "v"(from));
}
[[gnu::target("avx2")]] inline void widen(Double4& to, const Float4& from) {
  asm("vcvtps2pd {%1, %0|%0, %1}" : "=v"(to) : "v"(from));
}
[[gnu::target("avx512f")]] inline void narrow(Half16& to, const Int16& from) {
  asm("vpmovdw {%1, %0|%0, %1}" : "=v"(to) : "v"(from));
}
[[gnu::target("avx2")]] inline void narrow(Half8& to, const Int8& from) {
  asm("vpackusdw {%2, %1, %0|%0, %1, %2}"
      : "=v"(to)
      : "v"(__builtin_shufflevector(from, from, 0, 1, 2, 3)),
        "v"(__builtin_shufflevector(from, from, 4, 5, 6, 7)));
}
#endif

[[gnu::target("avx2,f16c")]] inline void widen(Float8& to, const Half8& from) {
  asm("vcvtph2ps {%1, %0|%0, %1}" : "=v"(to) : "v"(from));
}
[[gnu::target("avx2,f16c")]] inline void narrow(Half8& to, const Float8& from) {
  asm("vcvtps2ph {$0, %1, %0|%0, %1, 0}" : "=v"(to) : "v"(from));  // to nearest even
}
[[gnu::target("avx512f")]] inline void widen(Float16& to, const Half16& from) {
  asm("vcvtph2ps {%1, %0|%0, %1}" : "=v"(to) : "v"(from));
}
[[gnu::target("avx512f")]] inline void narrow(Half16& to, const Float16& from) {
  asm("vcvtps2ph {$0, %1, %0|%0, %1, 0}" : "=v"(to) : "v"(from));
}
#endif

// bfloat16 to float: the words, each with a zero below it, by one shuffle. (The vector extension's
// conversion and shift are two instructions.)
[[gnu::target(TOKENNORM_AVX512_TARGET)]] inline void widen_from_bfloat16(Float16& to,
                                                                         const Half16& from) {
  const Half32 order = {0, 0, 0, 1, 0, 2,  0, 3,  0, 4,  0, 5,  0, 6,  0, 7,
                        0, 8, 0, 9, 0, 10, 0, 11, 0, 12, 0, 13, 0, 14, 0, 15};
  const Half32 words = __builtin_shufflevector(  // the upper half is undefined, and not read
      from, from, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, -1, -1, -1, -1, -1, -1, -1,
      -1, -1, -1, -1, -1, -1, -1, -1, -1);
  asm("vpermw {%1, %2, %0%{%3%}%{z%}|%0%{%3%}%{z%}, %2, %1}"
      : "=v"(to)
      : "v"(words), "v"(order), "Yk"(0xaaaaaaaau));
}
[[gnu::target("avx2")]] inline void widen_from_bfloat16(Float8& to, const Half8& from) {
  const Char32 order = {-1, -1, 0, 1, -1, -1, 2,  3,  -1, -1, 4,  5,  -1, -1, 6,  7,
                        -1, -1, 8, 9, -1, -1, 10, 11, -1, -1, 12, 13, -1, -1, 14, 15};
#if defined(__clang__) || !TOKENNORM_TARGET_BUILTINS
  const auto twice =
      __builtin_shufflevector(from, from, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
#else
  const auto twice = __builtin_ia32_vbroadcastsi256(reinterpret_cast<Long2>(from));  // as it loads
#endif
#if TOKENNORM_TARGET_BUILTINS
  to = reinterpret_cast<Float8>(__builtin_ia32_pshufb256(reinterpret_cast<Char32>(twice), order));
#else
  asm("vpshufb {%2, %1, %0|%0, %1, %2}" : "=v"(to) : "v"(twice), "v"(order));
#endif
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

// ---- arithmetic ---------------------------------------------------------------------------------

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
#endif

// c ← a·b + c in one rounding. Left to themselves the compilers contract here and not there, and
// the same token would get different bits.
#if TOKENNORM_HAS_BUILTIN(__builtin_elementwise_fma)
template <class V>
TOKENNORM_INLINE void fuse(const V& a, const V& b, V& c) {
  c = __builtin_elementwise_fma(a, b, c);
}
#elif TOKENNORM_TARGET_BUILTINS
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
#else
[[gnu::target("avx512f")]] inline void fuse(const Float16& a, const Float16& b, Float16& c) {
  asm("vfmadd231ps {%2, %1, %0|%0, %1, %2}" : "+v"(c) : "v"(a), "v"(b));
}
[[gnu::target("avx512f")]] inline void fuse(const Double8& a, const Double8& b, Double8& c) {
  asm("vfmadd231pd {%2, %1, %0|%0, %1, %2}" : "+v"(c) : "v"(a), "v"(b));
}
[[gnu::target("avx2,fma")]] inline void fuse(const Float8& a, const Float8& b, Float8& c) {
  asm("vfmadd231ps {%2, %1, %0|%0, %1, %2}" : "+v"(c) : "v"(a), "v"(b));
}
[[gnu::target("avx2,fma")]] inline void fuse(const Double4& a, const Double4& b, Double4& c) {
  asm("vfmadd231pd {%2, %1, %0|%0, %1, %2}" : "+v"(c) : "v"(a), "v"(b));
}
[[gnu::target("fma")]] inline void fuse(const Double2& a, const Double2& b, Double2& c) {
  asm("vfmadd231pd {%2, %1, %0|%0, %1, %2}" : "+v"(c) : "v"(a), "v"(b));
}
#if defined(__FMA__)
inline void fuse(const Float4& a, const Float4& b, Float4& c) {
  asm("vfmadd231ps {%2, %1, %0|%0, %1, %2}" : "+v"(c) : "v"(a), "v"(b));
}
#endif
#endif

#if TOKENNORM_HAS_BUILTIN(__builtin_elementwise_sqrt)
TOKENNORM_INLINE void square_root(Double4& v) { v = __builtin_elementwise_sqrt(v); }
#else
[[gnu::target("avx2")]] inline void square_root(Double4& v) {
#if TOKENNORM_TARGET_BUILTINS
  v = __builtin_ia32_sqrtpd256(v);
#else
  asm("vsqrtpd {%0, %0|%0, %0}" : "+v"(v));
#endif
}
#endif

/// Bit i is set where the sign of lane i is, as in every lane of a mask that is set.
[[gnu::target("avx2")]] inline void sign_bits(unsigned& bits, const Double4& v) {
#if TOKENNORM_TARGET_BUILTINS
  bits = static_cast<unsigned>(__builtin_ia32_movmskpd256(v));
#else
  asm("vmovmskpd {%1, %0|%0, %1}" : "=r"(bits) : "x"(v));
#endif
}
#else
TOKENNORM_INLINE void finish_streaming() {}
#endif

#if defined(__aarch64__)  // c ← a·b + c, as above
TOKENNORM_INLINE void fuse(const Float4& a, const Float4& b, Float4& c) {
  asm("fmla %0.4s, %1.4s, %2.4s" : "+w"(c) : "w"(a), "w"(b));
}
TOKENNORM_INLINE void fuse(const Double2& a, const Double2& b, Double2& c) {
  asm("fmla %0.2d, %1.2d, %2.2d" : "+w"(c) : "w"(a), "w"(b));
}
#endif

TOKENNORM_INLINE void square_root(Double2& v) {
#if TOKENNORM_HAS_BUILTIN(__builtin_elementwise_sqrt)
  v = __builtin_elementwise_sqrt(v);
#elif defined(__SSE2__) && TOKENNORM_HAS_BUILTIN(__builtin_ia32_sqrtpd)
  v = __builtin_ia32_sqrtpd(v);
#else
  v = Double2{std::sqrt(v[0]), std::sqrt(v[1])};
#endif
}
TOKENNORM_INLINE void sign_bits(unsigned& bits, const Double2& v) {
#if defined(__SSE2__) && TOKENNORM_HAS_BUILTIN(__builtin_ia32_movmskpd)
  bits = static_cast<unsigned>(__builtin_ia32_movmskpd(v));
#else
  bits = (std::signbit(v[0]) ? 1u : 0u) | (std::signbit(v[1]) ? 2u : 0u);
#endif
}

TOKENNORM_END_KERNELS
