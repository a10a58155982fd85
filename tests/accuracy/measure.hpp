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
#include <cmath>
#include <cstdint>
#include <iterator>
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

/// One norm and scalar; what depends on their types.
struct Subject {
  std::string scalar;
  NormSpec spec;
  Format format;
  ErrorUnits units;
  long double (*rounded)(long double);
  std::vector<ExactStep> (*steps_of)(const Contestant&, const Problem&);
  FoundRow (*search_worst)(Searched, Index channels, Index count, Seed);
};

template <class TypedCase>
Subject subject() {
  using Scalar = typename TypedCase::Scalar;
  return {scalar_name<Scalar>(),  spec_of(plain_options<typename TypedCase::Kind>(0)),
          format_of<Scalar>(),    ErrorUnits::of<Scalar>(),
          rounded_by<Scalar>,     steps_of<TypedCase>,
          search_worst<TypedCase>};
}

class Measurement {
 public:
  Measurement(const Subject& subject, const Plan& plan, const std::vector<Contestant>& all,
              AccuracyTable& table)
      : subject_(subject), plan_(plan), contestants_(all), table_(table) {}

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
  struct Rows {
    std::vector<RowClass> classes;
    ExactMatrix x;
  };

  Rows hard_rows_of(Index channels) const {
    std::vector<ExactVector> values;
    Rows rows;
    for_each_hard_row(subject_.format, channels, Seed{1},
                      [&](RowClass row_class, const auto&, const auto& value) {
                        rows.classes.push_back(row_class);
                        values.emplace_back(channels);
                        for (Index c = 0; c < channels; ++c)
                          values.back()(c) = subject_.rounded(value(c));
                      });
    rows.x.resize(static_cast<Index>(values.size()), channels);
    for (Index t = 0; t < rows.x.rows(); ++t) rows.x.row(t) = values[static_cast<std::size_t>(t)];
    return rows;
  }

  template <class Values>
  Values rounded(const Values& values) const {
    return values.unaryExpr([this](long double value) { return subject_.rounded(value); });
  }
  NormSpec spec(double epsilon) const {
    NormSpec result = subject_.spec;
    result.epsilon = epsilon;
    return result;
  }
  /// Of 16 bits little but the one rounding is seen: a line for all classes.
  std::string rows_of(RowClass row_class) const {
    return subject_.format.significant_bits < 24 ? "all of these" : class_name(row_class);
  }

  /// `judge(contestant, step)` for each that has the operation.
  template <class Judge>
  void for_each_step(const Problem& problem, const Judge& judge) const {
    for (std::size_t i = 0; i < contestants_.size(); ++i)
      for (const ExactStep& step : subject_.steps_of(contestants_[i], problem)) judge(i, step);
  }

  void measure_forward() {
    for (const Index channels : edge_channels()) {
      if (channels > plan_.most_channels) continue;
      const Rows rows = hard_rows_of(channels);
      for (const double epsilon : {0.0, 1e-12, 1e-5}) {
        if (epsilon > 0 && channels > 5000) continue;
        const Index together = channels > 5000 ? 8 : 32;  // for the sake of memory
        for (Index first = 0; first < rows.x.rows(); first += together) {
          Problem problem{false, epsilon, {}, {}, {}, {}, {}};
          problem.x = rows.x.middleRows(first, std::min(together, rows.x.rows() - first));
          problem.forward = forward_oracle(spec(epsilon), problem.x);
          for_each_step(problem, [&](std::size_t contestant, const ExactStep& step) {
            for (Index t = 0; t < problem.x.rows(); ++t)
              see(contestant, "x̂", rows_of(rows.classes[static_cast<std::size_t>(first + t)]),
                  forward_units, subject_.units.normalized(step.y.row(t), problem.forward, t),
                  step.y.row(t).hasNaN());
          });
        }
      }
    }
  }

  void measure_backward() {
    for (const Index channels : gradient_channels()) {
      if (channels > plan_.most_channels) continue;
      const Rows rows = hard_rows_of(channels);
      Random random(Seed{5});
      const Shape shape{channels, 1};
      const auto scale = rounded(random_normal<ExactVector>(shape, random, 0.25, 1));
      const auto shift = rounded(random_normal<ExactVector>(shape, random, -0.5, 1));
      for (const double epsilon : {0.0, 1e-5}) {
        if (epsilon > 0 && channels > 1000) continue;
        Problem problem{true, epsilon, scale, shift, rows.x, {}, {}};
        problem.forward = forward_oracle(spec(epsilon), rows.x);
        for (const auto& [name, dy] : incoming_gradients<ExactMatrix>(spec(epsilon), rows.x)) {
          problem.dy = rounded(dy);
          judge_gradients(problem, rows.classes);
        }
      }
    }
  }

  void judge_gradients(const Problem& problem, const std::vector<RowClass>& classes) {
    const BackwardOracle expected =
        backward_oracle(spec(problem.epsilon), problem.x, problem.dy, problem.scale);
    for_each_step(problem, [&](std::size_t contestant, const ExactStep& step) {
      for (Index t = 0; t < step.dx.rows(); ++t)
        see(contestant, "dx", rows_of(classes[static_cast<std::size_t>(t)]), backward_units,
            subject_.units.dx(step.dx.row(t), expected, t), step.dx.row(t).hasNaN());
      long double units = subject_.units.gradient(step.scale, expected.scale, expected.scale_size);
      // A peer's RMSNorm has no β.
      if (subject_.spec.centre || contestants_[contestant].peer == nullptr)
        units = std::fmax(units,
                          subject_.units.gradient(step.shift, expected.shift, expected.shift_size));
      see(contestant, "dγ, dβ", "all of these", backward_units, units,
          step.scale.hasNaN() || step.shift.hasNaN());
    });
  }

  /// At each level for itself; what is found there is given to all.
  void search(Searched what) {
    const auto levels = std::count_if(contestants_.begin(), contestants_.end(),
                                      [](const Contestant& one) { return one.peer == nullptr; });
    const auto searches = static_cast<Index>(std::size(all_searched)) * levels *
                          static_cast<Index>(std::size(searched_channels));
    for (const Contestant& contestant : contestants_) {
      if (contestant.peer != nullptr) continue;
      for (const Index channels : searched_channels) {
        limit_isa(contestant.level);
        const FoundRow found = subject_.search_worst(
            what, channels, (plan_.searched_rows + searches - 1) / searches, next_seed());
        tried_ += found.tried;
        judge_found(what, found);
      }
    }
  }

  void judge_found(Searched what, const FoundRow& found) {
    const Index tokens = what == Searched::scale_gradient ? equal_tokens : 1;
    Problem problem{what != Searched::normalized, 0, {}, {}, {}, {}, {}};
    if (what == Searched::scale_gradient) problem.scale = ExactVector::Ones(found.x.size());
    problem.x = exact(found.x.replicate(tokens, 1));
    problem.dy = exact(found.dy.replicate(tokens, 1));
    problem.forward = forward_oracle(spec(0), problem.x);
    const BackwardOracle expected = backward_oracle(spec(0), problem.x, problem.dy);
    const ErrorUnits& units = subject_.units;
    for_each_step(problem, [&](std::size_t contestant, const ExactStep& step) {
      const auto see_found = [&](const char* name, long double of_row, bool is_nan) {
        see(contestant, name, "found by search", bound_where_searched(what), of_row, is_nan);
      };
      if (what == Searched::normalized)
        see_found("x̂", units.normalized(step.y.row(0), problem.forward, 0), step.y.hasNaN());
      if (what == Searched::dx)
        see_found("dx", units.dx(step.dx.row(0), expected, 0), step.dx.hasNaN());
      if (what == Searched::scale_gradient)
        see_found("dγ", units.gradient(step.scale, expected.scale, expected.scale_size),
                  step.scale.hasNaN());
    });
  }

  /// Another one for each search, the same in each run.
  Seed next_seed() { return {plan_.seed * 1'000'003 + searches_++}; }

  void see(std::size_t contestant, const char* what, const std::string& rows, long double bound,
           long double units, bool is_nan) {
    table_.line(subject_.scalar + " " + what, rows, bound).worst[contestant].see(units, is_nan);
  }

  const Subject subject_;
  const Plan& plan_;
  const std::vector<Contestant>& contestants_;
  AccuracyTable& table_;
  Index tried_ = 0;
  std::uint64_t searches_ = 0;
};

}  // namespace tokennorm::test
