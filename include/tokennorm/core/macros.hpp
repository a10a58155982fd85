// SPDX-License-Identifier: MIT
/// What the language has no words for: attributes that both compilers understand.
#pragma once

#if !defined(__GNUC__)
#error "tokennorm: its kernels use the vector extension of GCC and Clang; compile with one of them."
#endif

/// A kernel body: inlined into the function that carries the target attribute of an ISA level.
#define TOKENNORM_INLINE [[gnu::always_inline, gnu::no_instrument_function]] inline

/// Loops over rows and accumulators must be unrolled before their arrays can live in registers;
/// GCC at -O2 leaves them rolled.
#if defined(__clang__)
#define TOKENNORM_UNROLL _Pragma("clang loop unroll(full)")
#else
#define TOKENNORM_UNROLL _Pragma("GCC unroll 16")
#endif
