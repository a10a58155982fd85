// SPDX-License-Identifier: MIT
// What the fuzzer puts into tokens and parameters: ordinary numbers, hard rows, any bits at all.
#pragma once

#include "../support/hard_rows.hpp"
#include "fuzzed_case.hpp"
#include <tokennorm/core/concepts.hpp>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>

namespace tokennorm::test {

/// Whether tokens may have NaN and infinities.
enum class Range { finite, all };

template <class Scalar>
Scalar any_bits(Random& random, Range range) {
  for (;;) {
    std::array<std::uint8_t, sizeof(Scalar)> bytes;
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random.below(256));
    const auto value = std::bit_cast<Scalar>(bytes);
    if (range == Range::all || std::isfinite(to_exact(value))) return value;
  }
}

inline constexpr const char* row_kinds[] = {
    "normal",       "offset",      "of one size",      "offset of any size",
    "of all sizes", "of any bits", "some of any bits", "of few values",
    "hard"};

/// A row of that kind.
template <class Scalar>
void draw_row(Index kind, Random& random, Range range, auto&& row) {
  const Format format = format_of<Scalar>();
  const auto each = [&](const auto& value) {
    for (Index c = 0; c < row.size(); ++c) row(c) = finite<Scalar>(value(c));
  };
  const auto normal = [&](Index = 0) { return static_cast<long double>(random.normal()); };
  const auto power = [&](double low, double high) {  // of two, log-uniform, of either sign
    return static_cast<long double>(random.sign()) *
           std::exp2(static_cast<long double>(random.uniform(low, high)));
  };
  const auto any_size = [&] {
    return power(format.smallest_exponent - format.significant_bits, format.largest_exponent + 1);
  };
  const auto offset = [&](long double mean, long double deviation) {
    each([&](Index) { return mean + deviation * normal(); });
  };
  switch (kind) {
    case 0:
      return each(normal);
    case 1:
      return offset(power(0, 20), power(-20, 5));
    case 2:
      return offset(0, any_size());
    case 3: {
      const long double mean = any_size();
      return offset(mean, mean * power(-format.significant_bits - 1, 1));
    }
    case 4:
      return each([&](Index) { return any_size(); });
    case 5:
      for (Index c = 0; c < row.size(); ++c) row(c) = any_bits<Scalar>(random, range);
      return;
    case 6:
      each(normal);
      for (Index i = random.below(3); i >= 0; --i)
        row(random.below(row.size())) = any_bits<Scalar>(random, range);
      return;
    case 7: {
      std::array<Scalar, 3> values;
      const bool is_wide = random.below(2) == 0;
      for (Scalar& value : values)
        value = is_wide ? any_bits<Scalar>(random, Range::finite) : finite<Scalar>(10 * normal());
      const Index count = 1 + random.below(3);
      for (Index c = 0; c < row.size(); ++c)
        row(c) = values[static_cast<std::size_t>(random.below(count))];
      return;
    }
    default: {
      const Index which = random.below(110);  // about as many as there are
      const Seed seed{static_cast<std::uint64_t>(random.below(1 << 30))};
      each(normal);
      Index i = 0;
      for_each_hard_row(format, row.size(), seed,
                        [&](RowClass, const std::string&, const auto& value) {
                          if (i++ == which) each(value);
                        });
    }
  }
}

/// Tokens whose rows are of one kind, or each of another. The case tells it of `what`.
template <class Scalar>
TokenMatrix<Scalar> drawn_tokens(FuzzedCase& fuzzed, const char* what, Shape shape, Range range) {
  constexpr Index kinds = std::size(row_kinds);
  const Index kind = fuzzed.below(kinds + 3);
  fuzzed.note(what, kind < kinds ? row_kinds[kind] : "rows of many kinds");
  Random random(fuzzed.seed());
  TokenMatrix<Scalar> tokens(shape.tokens, shape.channels);
  for (Index t = 0; t < shape.tokens; ++t)
    draw_row<Scalar>(kind < kinds ? kind : random.below(kinds), random, range, tokens.row(t));
  return tokens;
}

}  // namespace tokennorm::test
