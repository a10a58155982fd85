// SPDX-License-Identifier: MIT
// The lines of the accuracy table for one norm and scalar: the hard rows of the tests, with the
// same channel counts and ε, and rows that a search finds.
#pragma once

#include "../norm/backward_accuracy.hpp"
#include "../norm/searched_rows.hpp"
#include "../support/edge_shapes.hpp"
#include "../support/hard_rows.hpp"
#include "contestants.hpp"
#include "table.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace tokennorm::test {

struct Plan {
  Index searched_rows = 1'000'000;  ///< for each scalar: of all levels, results and channel counts
  std::uint64_t seed = 1;
  Index most_channels = 65536;
};

inline std::string class_name(RowClass row_class) {
  constexpr std::array names = {"ordinary",    "large offset", "huge",    "tiny, subnormal",
                                "one outlier", "constant",     "patterns"};
  return names[static_cast<std::size_t>(row_class)];
}

template <class TypedCase>
class Measurement {
 public:
  using Kind = typename TypedCase::Kind;
  using Scalar = typename TypedCase::Scalar;
  using Tokens = typename TypedCase::RowMajor;

  Measurement(const Plan& plan, const std::vector<Contestant>& all, AccuracyTable& table)
      : plan_(plan), contestants_(all), table_(table) {}

  /// The number of rows that the search has tried.
  Index run() {
    measure_forward();
    search(Searched::normalized);
    measure_backward();
    search(Searched::dx);
    search(Searched::scale_gradient);
    return tried_;
  }

 private:
  static constexpr bool is_narrow = sizeof(Scalar) == 2;

  static std::string result(const char* what) { return scalar_name<Scalar>() + " " + what; }
  /// Of 16 bits little but the one rounding is seen: a line for all classes.
  static std::string rows_of(RowClass row_class) {
    return is_narrow ? "all of these" : class_name(row_class);
  }

  /// `judge(worst, step)` for each contestant that has the operation.
  template <class Judge>
  void for_each_step(const Problem<TypedCase>& problem, bool backward, const Judge& judge) {
    for (std::size_t i = 0; i < contestants_.size(); ++i)
      for (const ExactStep& step : steps_of(contestants_[i], problem, backward)) judge(i, step);
  }

  void measure_forward() {
    for (const Index channels : edge_channels()) {
      if (channels > plan_.most_channels) continue;
      const auto rows = hard_rows<Scalar>(channels);
      const auto x = stacked<Tokens>(rows);
      for (const double epsilon : {0.0, 1e-12, 1e-5}) {
        if (epsilon > 0 && channels > 5000) continue;
        const typename TypedCase::Norm norm(channels, plain_options<Kind>(epsilon));
        const Index together = channels > 5000 ? 8 : 32;  // for the sake of memory
        for (Index first = 0; first < x.rows(); first += together) {
          const Index count = std::min(together, x.rows() - first);
          Problem<TypedCase> problem{norm, x.middleRows(first, count), {}, {}};
          problem.forward = forward_oracle(spec_of(norm.options()), exact(problem.x));
          for_each_step(problem, false, [&](std::size_t contestant, const ExactStep& step) {
            for (Index t = 0; t < count; ++t) {
              const RowClass row_class = rows[static_cast<std::size_t>(first + t)].row_class;
              see(contestant, "x̂", rows_of(row_class), forward_units,
                  units_.normalized(step.y.row(t), problem.forward, t), step.y.row(t).hasNaN());
            }
          });
        }
      }
    }
  }

  void measure_backward() {
    for (const Index channels : gradient_channels()) {
      if (channels > plan_.most_channels) continue;
      const auto rows = hard_rows<Scalar>(channels);
      for (const double epsilon : {0.0, 1e-5}) {
        if (epsilon > 0 && channels > 1000) continue;
        const auto norm = random_norm<TypedCase>(channels, Seed{5}, affine_options<Kind>(epsilon));
        Problem<TypedCase> problem{norm, stacked<Tokens>(rows), {}, {}};
        const ExactMatrix x = exact(problem.x);
        problem.forward = forward_oracle(spec_of(norm.options()), x);
        for (auto& [name, dy] : incoming_gradients<Tokens>(spec_of(norm.options()), x)) {
          problem.dy = std::move(dy);
          const BackwardOracle expected = backward_oracle_of(norm, x, exact(problem.dy));
          for_each_step(problem, true, [&](std::size_t contestant, const ExactStep& step) {
            for (Index t = 0; t < x.rows(); ++t)
              see(contestant, "dx", rows_of(rows[static_cast<std::size_t>(t)].row_class),
                  backward_units, units_.dx(step.dx.row(t), expected, t), step.dx.row(t).hasNaN());
            see(contestant, "dγ, dβ", "all of these", backward_units,
                gradient_units(contestant, step, expected),
                step.scale.hasNaN() || step.shift.hasNaN());
          });
        }
      }
    }
  }

  /// A peer's RMSNorm has no β.
  long double gradient_units(std::size_t contestant, const ExactStep& step,
                             const BackwardOracle& expected) const {
    const long double scale = units_.gradient(step.scale, expected.scale, expected.scale_size);
    if (!Kind::centred && contestants_[contestant].peer != nullptr) return scale;
    return std::fmax(scale, units_.gradient(step.shift, expected.shift, expected.shift_size));
  }

  /// At each level for itself; what is found there is given to all.
  void search(Searched what) {
    const auto levels = std::count_if(contestants_.begin(), contestants_.end(),
                                      [](const Contestant& one) { return one.peer == nullptr; });
    const auto searches = static_cast<Index>(std::size(all_searched)) * levels *
                          static_cast<Index>(std::size(searched_channels));
    const Index count = plan_.searched_rows / searches;
    for (const Contestant& contestant : contestants_) {
      if (contestant.peer != nullptr) continue;
      for (const Index channels : searched_channels) {
        limit_isa(contestant.level);
        const auto found = search_worst<TypedCase>(what, channels, count, next_seed());
        tried_ += found.tried;
        judge_found(what, found);
      }
    }
  }

  void judge_found(Searched what, const FoundRow<Scalar>& found) {
    const bool backward = what != Searched::normalized;
    const Index tokens = what == Searched::scale_gradient ? equal_tokens : 1;
    const auto norm = searched_norm<TypedCase>(what, found.x.size());
    Problem<TypedCase> problem{
        norm, found.x.replicate(tokens, 1), found.dy.replicate(tokens, 1), {}};
    problem.forward = forward_oracle(spec_of(norm.options()), exact(problem.x));
    const BackwardOracle expected = backward_oracle_of(norm, exact(problem.x), exact(problem.dy));
    for_each_step(problem, backward, [&](std::size_t contestant, const ExactStep& step) {
      const auto see_found = [&](const char* name, long double units, bool is_nan) {
        see(contestant, name, "found by search", bound_where_searched(what), units, is_nan);
      };
      if (what == Searched::normalized)
        see_found("x̂", units_.normalized(step.y.row(0), problem.forward, 0), step.y.hasNaN());
      if (what == Searched::dx)
        see_found("dx", units_.dx(step.dx.row(0), expected, 0), step.dx.hasNaN());
      if (what == Searched::scale_gradient)
        see_found("dγ", units_.gradient(step.scale, expected.scale, expected.scale_size),
                  step.scale.hasNaN());
    });
  }

  /// Another one for each search, the same in each run.
  Seed next_seed() { return {plan_.seed * 1'000'003 + searches_++}; }

  void see(std::size_t contestant, const char* what, const std::string& rows, long double bound,
           long double units, bool is_nan) {
    table_.line(result(what), rows, bound).worst[contestant].see(units, is_nan);
  }

  const Plan& plan_;
  const std::vector<Contestant>& contestants_;
  AccuracyTable& table_;
  ErrorUnits units_ = ErrorUnits::of<Scalar>();
  Index tried_ = 0;
  std::uint64_t searches_ = 0;
};

}  // namespace tokennorm::test
