// SPDX-License-Identifier: MIT
// The differential fuzzer without libFuzzer: a case for each seed, until one fails.
//
//   fuzz_norms_seeded [--seed FIRST] [--seconds S | --cases N]
//
// --seed alone runs that one case: what the report of a failure says to do.
#include "bounds.hpp"
#include "cases.hpp"

#include <array>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <optional>
#include <random>
#include <string>
#include <string_view>

namespace {

using Clock = std::chrono::steady_clock;

void run_seed(std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::array<std::uint8_t, 1024> bytes;
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(engine());
  tokennorm::test::FuzzedCase fuzzed(bytes, "--seed " + std::to_string(seed));
  tokennorm::test::run_case(fuzzed);
}

struct Options {
  std::uint64_t seed = 1;
  std::optional<std::uint64_t> seconds, cases;
};

std::optional<Options> options_from(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; i += 2) {
    const std::string_view name = arguments[i], text = i + 1 < count ? arguments[i + 1] : "";
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) return {};
    if (name == "--seed") {
      options.seed = value;
    } else if (name == "--seconds") {
      options.seconds = value;
    } else if (name == "--cases") {
      options.cases = value;
    } else {
      return {};
    }
  }
  return options;
}

}  // namespace

int main(int count, char** arguments) {
  const auto options = options_from(count, arguments);
  if (!options) {
    std::cerr << "usage: fuzz_norms_seeded [--seed FIRST] [--seconds S | --cases N]\n";
    return 2;
  }
  const auto begin = Clock::now();
  const auto is_over = [&](std::uint64_t cases) {
    if (options->seconds) return Clock::now() - begin >= std::chrono::seconds(*options->seconds);
    return cases >= options->cases.value_or(1);
  };
  std::uint64_t cases = 0;
  for (; !is_over(cases); ++cases) run_seed(options->seed + cases);
  std::cout << cases << " cases from seed " << options->seed << '\n';
  tokennorm::test::print_worst_cases();
}
