// SPDX-License-Identifier: MIT
// The ISA level: TOKENNORM_ISA and limit_isa lower it, nothing raises it.
#include "levels.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>
#include <string>

namespace tokennorm::test {
namespace {

/// Sets TOKENNORM_ISA, or unsets it, for the length of a scope.
class Environment {
 public:
  explicit Environment(const char* value) {
    if (const char* before = std::getenv("TOKENNORM_ISA")) before_ = before;
    set(value);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() {
    set(before_ ? before_->c_str() : nullptr);
    limit_isa(Isa::avx512);
  }

 private:
  static void set(const char* value) {
    if (value != nullptr)
      setenv("TOKENNORM_ISA", value, 1);
    else
      unsetenv("TOKENNORM_ISA");
  }
  std::optional<std::string> before_;
};

/// The level of this machine, with nothing to lower it.
Isa machine() {
  const Environment unset(nullptr);
  limit_isa(Isa::avx512);
  return isa();
}

Isa lower_of(Isa a, Isa b) { return static_cast<int>(a) < static_cast<int>(b) ? a : b; }

struct LanesTask {
  int* floats;
  int* doubles;
  template <class Level>
  TOKENNORM_INLINE void run() const {
    *floats = Level::template lanes<float>;
    *doubles = Level::template lanes<double>;
  }
};

TEST(IsaLevel, LimitLowersAndNeverRaises) {
  const Environment unset(nullptr);
  const Isa most = machine();
  for (const Isa level : {Isa::baseline, Isa::avx512, Isa::avx2, Isa::avx512, Isa::baseline}) {
    limit_isa(level);
    EXPECT_EQ(isa(), lower_of(level, most)) << ::testing::PrintToString(level);
  }
}

TEST(IsaLevel, TheEnvironmentLowersAndNeverRaises) {
  const Isa most = machine();
  const struct {
    const char* value;
    Isa level;
  } cases[] = {{"baseline", Isa::baseline}, {"avx2", Isa::avx2}, {"avx512", Isa::avx512}};
  for (const auto& [value, level] : cases) {
    SCOPED_TRACE(value);
    const Environment set(value);
    limit_isa(Isa::avx512);
    EXPECT_EQ(isa(), lower_of(level, most));
    limit_isa(Isa::avx2);
    EXPECT_EQ(isa(), lower_of(lower_of(level, most), Isa::avx2));
  }
  for (const char* value : {"", "fastest", "AVX2", "baseline "}) {
    SCOPED_TRACE(value);
    const Environment set(value);
    limit_isa(Isa::avx512);
    EXPECT_EQ(isa(), most) << "a word that names no level changes nothing";
  }
}

TEST(IsaLevel, BelowAvx512TheMachineDoesNotConvertToBfloat16) {
  const Environment unset(nullptr);
  limit_isa(Isa::avx2);
  EXPECT_FALSE(detail::has_bfloat16());
#if defined(__x86_64__) && TOKENNORM_MAX_ISA >= 2
  limit_isa(Isa::avx512);
  EXPECT_EQ(detail::has_bfloat16(),
            machine() == Isa::avx512 && __builtin_cpu_supports("avx512bf16") != 0);
#endif
}

TEST(IsaLevelDeathTest, TheEnvironmentIsReadAtTheFirstUse) {
  // In a process of its own, in which nothing has asked for the level yet.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const char* const before = std::getenv("TOKENNORM_ISA");
  const std::string kept = before == nullptr ? "" : before;
  setenv("TOKENNORM_ISA", "baseline", 1);
  EXPECT_EXIT(std::exit(isa() == Isa::baseline ? 0 : 1), ::testing::ExitedWithCode(0), "");
  setenv("TOKENNORM_ISA", "avx2", 1);
  EXPECT_EXIT(std::exit(isa() == Isa::avx512 ? 1 : 0), ::testing::ExitedWithCode(0), "");
  if (before == nullptr)
    unsetenv("TOKENNORM_ISA");
  else
    setenv("TOKENNORM_ISA", kept.c_str(), 1);
}

TEST(IsaLevel, DispatchRunsTheTaskAtTheChosenLevel) {
  at_every_level([] {
    int floats = 0, doubles = 0;
    kernels::dispatch(LanesTask{&floats, &doubles});
    const int expected = isa() == Isa::baseline ? 4 : isa() == Isa::avx2 ? 8 : 16;
    EXPECT_EQ(floats, expected);
    EXPECT_EQ(doubles, expected / 2);
  });
}

}  // namespace
}  // namespace tokennorm::test
