// SPDX-License-Identifier: MIT
// The rows on which normalization layers go wrong, by name, for any scalar type and channel count.
//
// Values are made in long double, clamped to the finite range of the type and rounded to it. What
// is near a limit is near that type's own limit.
#pragma once

#include "random_tokens.hpp"
#include "scalars.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

namespace tokennorm::test {

/// What makes a row hard, for tables of one line each.
enum class RowClass { ordinary, offset, huge, tiny, outlier, constant, pattern };

/// Calls `add_row(row_class, name, value)` for each hard row, value(c) being that of channel c,
/// asked for in order. Not a template, so that it is compiled once.
inline void for_each_hard_row(
    const Format& format, Index channels, Seed seed,
    const std::function<void(RowClass, const std::string&,
                             const std::function<long double(Index)>&)>& add_row) {
  // What makes a row hard, scaled to the range of the type.
  const bool narrow = format.largest_exponent == 15, wide = format.largest_exponent == 1023;
  const long double huge = narrow ? 6e4L : wide ? 1e308L : 1e38L;
  const long double large = narrow ? 1e4L : wide ? 1e250L : 1e30L;
  const long double tiny = narrow ? 1e-5L : wide ? 1e-300L : 1e-30L;
  const long double limit = format.largest;
  const long double normal = format.smallest_normal;
  const long double subnormal = format.smallest_subnormal;
  Random random(seed);
  const auto gauss = [&] { return static_cast<long double>(random.normal()); };
  const auto coin = [&] { return static_cast<long double>(random.sign()); };
  const auto flat = [&](double low, double high) {
    return static_cast<long double>(random.uniform(low, high));
  };

  RowClass row_class = RowClass::ordinary;
  const auto add = [&](const std::string& name, const std::function<long double(Index)>& value) {
    add_row(row_class, name, value);
  };

  // Ordinary rows, and ordinary rows moved and scaled.
  add("normal", [&](Index) { return gauss(); });
  add("uniform", [&](Index) { return flat(0, 1); });
  row_class = RowClass::huge;
  add("log-uniform over the whole range",
      [&](Index) { return coin() * std::exp(flat(0, 1) * std::log(huge / tiny)) * tiny; });
  row_class = RowClass::ordinary;
  add("log-uniform over six decades", [&](Index) { return coin() * std::pow(10.0L, flat(-3, 3)); });
  add("heavy tail", [&](Index) { return coin() * std::pow(flat(0, 1), -0.75L); });
  row_class = RowClass::offset;
  for (const long double ratio : {1.0L, 10.0L, 1e2L, 1e3L, 1e4L, 1e5L, 1e6L}) {
    const std::string name = "offset, mean/sigma " + std::to_string(std::lround(ratio));
    add(name, [&](Index) { return (narrow ? 1 / ratio : 1) * (ratio + gauss()); });
    add(name + ", negative and small", [&](Index) { return -0.3L * (1 + gauss() / ratio); });
  }
  add("offset 1e6, uniform", [&](Index) { return narrow ? 1 + flat(0, 0.1) : 1e6L + flat(0, 1); });

  // The ends of the range.
  row_class = RowClass::tiny;
  add("all tiny", [&](Index) { return tiny * gauss(); });
  add("tiny with an offset", [&](Index) { return tiny * (1000 + gauss()); });
  row_class = RowClass::huge;
  add("all large", [&](Index) { return large * gauss(); });
  add("all huge", [&](Index) { return huge * flat(-1, 1); });
  add("huge with an offset", [&](Index) { return huge * (1 + flat(-0.01, 0.01)); });
  add("near the largest, mixed sign", [&](Index) { return coin() * limit * (1 - flat(0, 1e-3)); });
  add("near the largest, one sign", [&](Index) { return limit * (1 - flat(0, 1e-2)); });
  add("the largest, alternating", [&](Index c) { return c % 2 == 0 ? limit : -limit; });
  add("half the largest, one the other sign",
      [&](Index c) { return c == channels / 2 ? -limit : limit / 2; });
  row_class = RowClass::tiny;
  add("subnormal", [&](Index) { return subnormal * std::round(flat(-40, 40)); });
  add("around the smallest normal", [&](Index) { return normal * gauss(); });
  row_class = RowClass::huge;
  add("squares just overflow", [&](Index) { return std::sqrt(limit) * flat(0.9, 1.1) * coin(); });
  add("the sum of squares just overflows", [&](Index) {
    return std::sqrt(limit / static_cast<long double>(channels)) * flat(0.9, 1.1) * coin();
  });
  add("the sum just overflows",
      [&](Index) { return limit / static_cast<long double>(channels) * flat(0.9, 1.2); });
  row_class = RowClass::tiny;
  add("squares just underflow", [&](Index) { return std::sqrt(normal) * gauss(); });
  add("squares are subnormal", [&](Index) { return std::sqrt(subnormal) * gauss(); });

  // One value apart from the rest, anywhere.
  row_class = RowClass::outlier;
  const std::vector<std::pair<std::string, Index>> places = {
      {"first", 0},
      {"in the first vector", std::min<Index>(3, channels - 1)},
      {"in the middle", channels / 2},
      {"last", channels - 1}};
  for (const auto& entry : places) {
    const std::string& where = entry.first;
    const Index place = entry.second;
    add("outlier 1000 " + where, [&](Index c) { return c == place ? 1000.0L : gauss(); });
    add("outlier large " + where, [&](Index c) { return c == place ? large : gauss(); });
    add("outlier -huge " + where, [&](Index c) { return c == place ? -huge : gauss(); });
    add("constant but one " + where, [&](Index c) { return c == place ? 3.5L : 0.1L; });
    add("zero but one " + where, [&](Index c) { return c == place ? 0.7L : 0.0L; });
    add("one subnormal, zero else, " + where,
        [&](Index c) { return c == place ? subnormal : 0.0L; });
  }
  add("two opposite outliers", [&](Index c) {
    return c == 0 ? huge : c == channels - 1 ? -huge : gauss();
  });
  for (const Index lead : {1, 4, 16, 32, 64}) {
    const std::string first = "first " + std::to_string(lead) + " values ";
    add(first + "far off", [&](Index c) { return c < lead ? 1e4L + gauss() : gauss(); });
    add(first + "zero, offset after",
        [&](Index c) { return c < lead ? 0.0L : 1e4L * (1 + 1e-3L * gauss()); });
    add(first + "average far off",
        [&](Index c) { return c < lead ? (c % 2 == 0 ? 3e4L : -1e4L) : 1e-2L * gauss(); });
  }

  // Little or no spread.
  row_class = RowClass::constant;
  add("zero", [](Index) { return 0.0L; });
  add("negative zero", [](Index) { return -0.0L; });
  add("constant 0.1", [](Index) { return 0.1L; });
  add("constant -1e4", [](Index) { return -1e4L; });
  add("constant, a third of large", [&](Index) { return large / 3; });
  add("constant, the largest", [&](Index) { return limit; });
  add("constant, tiny", [&](Index) { return tiny; });
  add("constant, subnormal", [&](Index) { return 3 * subnormal; });
  const auto neighbours = [&](long double base) {  // base or the next value above
    const long double exponent = std::floor(std::log2(base));
    return base + std::exp2(exponent + 1 - format.significant_bits);
  };
  for (const long double base : {1.0L, 1e4L, large}) {
    const long double low = rounded_to(format, base);
    const long double high = neighbours(low);
    const std::string at = base == large ? "large" : std::to_string(std::lround(base));
    add("one ulp apart at " + at, [&, low, high](Index) { return coin() > 0 ? high : low; });
    add("one of one ulp at " + at,
        [&, low, high](Index c) { return c == channels / 3 ? high : low; });
  }

  // Patterns.
  row_class = RowClass::pattern;
  add("two values", [&](Index) { return coin() * 1.5L; });
  add("two values, large", [&](Index) { return coin() * large; });
  add("alternating about an offset", [](Index c) { return 1000.0L + (c % 2 == 0 ? 1 : -1); });
  add("ramp", [](Index c) { return static_cast<long double>(c); });
  add("ramp down from an offset",
      [](Index c) { return 5e4L - 0.5L * static_cast<long double>(c); });
  add("steep ramp", [](Index c) { return std::pow(static_cast<long double>(c), 3); });
  add("halves apart", [&](Index c) { return (c < channels / 2 ? 1e4L : -1e4L) + gauss(); });
  add("halves apart, interleaved", [&](Index c) { return (c % 2 == 0 ? 1e4L : -1e4L) + gauss(); });
}

template <class Scalar>
struct HardRow {
  std::string name;
  Eigen::Matrix<Scalar, Eigen::Dynamic, 1> x;
};

template <class Scalar>
[[gnu::noinline]] std::vector<HardRow<Scalar>> hard_rows(Index channels, Seed seed = {1}) {
  std::vector<HardRow<Scalar>> rows;
  for_each_hard_row(format_of<Scalar>(), channels, seed,
                    [&](RowClass, const auto& name, const auto& value) {
                      HardRow<Scalar> row{name, Eigen::Matrix<Scalar, Eigen::Dynamic, 1>(channels)};
                      for (Index c = 0; c < channels; ++c) row.x(c) = finite<Scalar>(value(c));
                      rows.push_back(std::move(row));
                    });
  return rows;
}

template <class Scalar>
[[gnu::noinline]] std::vector<std::string> names_of(const std::vector<HardRow<Scalar>>& rows) {
  std::vector<std::string> names;
  for (const HardRow<Scalar>& row : rows) names.push_back(row.name);
  return names;
}

/// All hard rows of one channel count as the tokens of a matrix.
template <class Matrix>
[[gnu::noinline]] Matrix stacked(const std::vector<HardRow<typename Matrix::Scalar>>& rows) {
  Matrix tokens(static_cast<Index>(rows.size()), rows.empty() ? 0 : rows.front().x.size());
  for (Index t = 0; t < tokens.rows(); ++t) tokens.row(t) = rows[static_cast<std::size_t>(t)].x;
  return tokens;
}

}  // namespace tokennorm::test
