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

/// Compilers drop builtins from one version to the next, so each has a form beside it that does
/// without. TOKENNORM_NO_BUILTINS is for the test that compiles these.
#if defined(TOKENNORM_NO_BUILTINS)
#define TOKENNORM_HAS_BUILTIN(builtin) 0
#else
#define TOKENNORM_HAS_BUILTIN(builtin) __has_builtin(builtin)
#endif

/// Whether long double has the range that the squares of doubles need. TOKENNORM_NO_LONG_DOUBLE is
/// for the test that does without.
#if defined(TOKENNORM_NO_LONG_DOUBLE) || __LDBL_MAX_EXP__ <= __DBL_MAX_EXP__
#define TOKENNORM_HAS_WIDE_LONG_DOUBLE 0
#else
#define TOKENNORM_HAS_WIDE_LONG_DOUBLE 1
#endif
