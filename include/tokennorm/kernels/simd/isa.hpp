// SPDX-License-Identifier: MIT
/// Run-time choice of the instruction set. The kernels are written once, over a number of lanes,
/// and compiled three times inside functions with a target attribute: a plain -O2 build uses
/// AVX-512 where the machine has it.
///
/// The environment variable TOKENNORM_ISA=avx512|avx2|baseline, or limit_isa, lowers the level for
/// tests and benchmarks; nothing raises it above what the machine has.
#pragma once

#include "tokennorm/core/macros.hpp"
#include "tokennorm/version.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string_view>

/// The highest level that kernels are compiled for: 0 baseline, 1 AVX2, 2 AVX-512. A level left out
/// saves its part of what the kernels cost to compile; where it would run, the one below does.
#ifndef TOKENNORM_MAX_ISA
#define TOKENNORM_MAX_ISA 2
#endif

// Units built with different flags, or with another version of tokennorm, must not share one copy
// of a kernel: the linker would keep either, and a machine without the instructions would meet
// them, or arguments laid out in another way. So the version and the flags that change the code are
// in the names of the namespaces.
#define TOKENNORM_JOIN_EXPANDED(a, b) a##b
#define TOKENNORM_JOIN(a, b) TOKENNORM_JOIN_EXPANDED(a, b)
#define TOKENNORM_BUILT_FOR_EXPANDED(major, minor, patch, target) \
  v##major##_##minor##_##patch##_built_for_##target
#define TOKENNORM_BUILT_FOR(major, minor, patch, target) \
  TOKENNORM_BUILT_FOR_EXPANDED(major, minor, patch, target)
#if defined(__FAST_MATH__)
#define TOKENNORM_KERNELS_MATH TOKENNORM_JOIN(fast_math_up_to_, TOKENNORM_MAX_ISA)
#else
#define TOKENNORM_KERNELS_MATH TOKENNORM_JOIN(exact_math_up_to_, TOKENNORM_MAX_ISA)
#endif
#if defined(__AVX512F__)
#define TOKENNORM_REGISTERS avx512
#elif defined(__AVX2__)
#define TOKENNORM_REGISTERS avx2
#elif defined(__AVX__)
#define TOKENNORM_REGISTERS avx
#else
#define TOKENNORM_REGISTERS baseline
#endif
#if defined(__FMA__)
#define TOKENNORM_MACHINE TOKENNORM_JOIN(TOKENNORM_REGISTERS, _fma)
#else
#define TOKENNORM_MACHINE TOKENNORM_REGISTERS
#endif
#define TOKENNORM_KERNELS_TARGET                                                                 \
  TOKENNORM_BUILT_FOR(TOKENNORM_VERSION_MAJOR, TOKENNORM_VERSION_MINOR, TOKENNORM_VERSION_PATCH, \
                      TOKENNORM_MACHINE)

/// Opens and closes the kernels' namespace.
#define TOKENNORM_BEGIN_KERNELS \
  namespace tokennorm::kernels::inline TOKENNORM_KERNELS_TARGET::inline TOKENNORM_KERNELS_MATH {
#define TOKENNORM_END_KERNELS }

namespace tokennorm {

/// Instruction set levels, in ascending order.
enum class Isa { baseline, avx2, avx512 };

namespace detail {

/// AVX-512 on a machine that also converts to bfloat16 by itself: no level of its own, the kernels
/// are those of AVX-512 and ask where they store. All that differs is that what is below the normal
/// floats becomes zero.
inline constexpr Isa avx512_bfloat16{3};

inline Isa machine_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  // An AVX2 machine has F16C; Clang 14 does not let one ask for it.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return __builtin_cpu_supports("avx512bf16") ? avx512_bfloat16 : Isa::avx512;
  }
  if (avx2) return Isa::avx2;
#endif
  return Isa::baseline;
}

inline Isa environment_isa() {
  const char* text = std::getenv("TOKENNORM_ISA");
  const std::string_view name = text == nullptr ? "" : text;
  if (name == "baseline") return Isa::baseline;
  if (name == "avx2") return Isa::avx2;
  return avx512_bfloat16;
}

inline Isa lower(Isa a, Isa b) { return a < b ? a : b; }

inline Isa highest_isa() { return lower(machine_isa(), environment_isa()); }

/// The level, or −1 before it is first asked for. Not a static of a function, which takes a call
/// and a guard to read.
inline constinit std::atomic<int> chosen_isa{-1};

[[gnu::cold, gnu::noinline]] inline int choose_isa() {
  int unset = -1;
  chosen_isa.compare_exchange_strong(unset, static_cast<int>(highest_isa()));
  return chosen_isa.load(std::memory_order_relaxed);
}

/// Whether kernels at AVX-512 convert to bfloat16 by the machine's own instruction. (Asked for
/// every vector, which costs nothing that can be measured: the vector units are what the loops wait
/// for.)
TOKENNORM_INLINE bool has_bfloat16() {
  return chosen_isa.load(std::memory_order_relaxed) > static_cast<int>(Isa::avx512);
}

}  // namespace detail

/// The level the kernels run at. (Inlined: TOKENNORM_MAX_ISA is that of the unit that asks.)
TOKENNORM_INLINE Isa isa() {
  int level = detail::chosen_isa.load(std::memory_order_relaxed);
  if (level < 0) [[unlikely]]
    level = detail::choose_isa();
  return static_cast<Isa>(std::min(level, TOKENNORM_MAX_ISA));
}

/// Sets the level to `level`, or to what the machine and the environment allow where that is lower.
inline void limit_isa(Isa level) {
  const Isa most = level == Isa::avx512 ? detail::avx512_bfloat16 : level;
  detail::chosen_isa.store(static_cast<int>(detail::lower(most, detail::highest_isa())),
                           std::memory_order_relaxed);
}

}  // namespace tokennorm

TOKENNORM_BEGIN_KERNELS

/// An ISA level as the kernels see it: how many lanes a register has, and a function compiled for
/// it. `call(task)` runs `task.template run<Level>()`, which must be TOKENNORM_INLINE, and is
/// itself never inlined: kernels use it for their entry and to keep rare paths out of the way.
struct Baseline {
#if defined(__x86_64__)
  static constexpr bool is_for_speed = false;  // x86-64 of before 2013: right, and quick to compile
#else
  static constexpr bool is_for_speed = true;
#endif
  template <class A>
  static constexpr int lanes = 16 / int{sizeof(A)};
  template <class Task>
  [[gnu::noinline]] static void call(const Task& task) noexcept {
    task.template run<Baseline>();
  }
};

#if defined(__x86_64__)
#define TOKENNORM_AVX2_TARGET "avx2,fma,f16c"
#define TOKENNORM_AVX512_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"

struct Avx2 {
  static constexpr bool is_for_speed = true;
  template <class A>
  static constexpr int lanes = 32 / int{sizeof(A)};
  template <class Task>
  [[gnu::noinline, gnu::target(TOKENNORM_AVX2_TARGET)]] static void call(
      const Task& task) noexcept {
    task.template run<Avx2>();
  }
};

struct Avx512 {
  static constexpr bool is_for_speed = true;
  template <class A>
  static constexpr int lanes = 64 / int{sizeof(A)};
  template <class Task>
  [[gnu::noinline, gnu::target(TOKENNORM_AVX512_TARGET)]] static void call(
      const Task& task) noexcept {
    task.template run<Avx512>();
  }
};
#endif

/// Whether the kernels at the chosen level are made for speed.
inline bool level_is_for_speed() { return Baseline::is_for_speed || isa() != Isa::baseline; }

/// Runs the task at the chosen level; one that is only for speed is not compiled for a baseline
/// that is not.
template <class Task, bool only_for_speed = false>
void dispatch(const Task& task) noexcept {
#if defined(__x86_64__)
  [[maybe_unused]] const Isa level = isa();
#if TOKENNORM_MAX_ISA >= 2
  if (level == Isa::avx512) return Avx512::call(task);
#endif
#if TOKENNORM_MAX_ISA >= 1
  if (level != Isa::baseline) return Avx2::call(task);
#endif
#endif
  if constexpr (Baseline::is_for_speed || !only_for_speed) Baseline::call(task);
}
template <class Task>
void dispatch_for_speed(const Task& task) noexcept {
  dispatch<Task, true>(task);
}

TOKENNORM_END_KERNELS
