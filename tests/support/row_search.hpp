// SPDX-License-Identifier: MIT
// A search for the row of which a result is worst: rows of kinds in which roundings can agree, and
// small changes of the worst one so far.
#pragma once

#include "random_tokens.hpp"
#include "scalars.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <vector>

namespace tokennorm::test {

/// A token and its incoming gradient.
using SearchedRow = Eigen::Ref<Eigen::RowVectorXd>;

/// Channels that are alike: number j of `count` groups has every block of so many channels whose
/// number is j modulo `count`. What is rounded in one of them is rounded alike in the others, in
/// all lanes of a vector or in all vectors of a sum.
struct ChannelGroups {
  Index block = 1, count = 1;

  ChannelGroups(Random& random, Index channels) {
    block = std::min(Index{1} << random.below(7), channels);
    const Index blocks = (channels + block - 1) / block;
    count = random.uniform() < 0.3 ? blocks : std::min(Index{1} << random.below(6), blocks);
  }
  Index of(Index channel) const { return channel / block % count; }
};

/// Two values of nearly one size about a mean near zero: all x̂ are ±1.
inline void set_two_values(Random& random, SearchedRow row) {
  const double size = std::exp2(random.uniform()), share = random.uniform();
  const double mean = std::exp2(-20 * random.uniform()) * random.uniform(-1, 1);
  const double jitter = std::exp2(-50 * random.uniform());
  const bool in_turn = random.uniform() < 0.5;
  for (Index c = 0; c < row.size(); ++c) {
    const bool is_first = in_turn ? c % 2 == 0 : random.uniform() < share;
    const double value = size * (1 + jitter * random.uniform(-0.5, 0.5));
    row(c) = (is_first ? value : -value) + mean;
  }
}

/// A value for each group of channels, of sizes that are near to one another or not. Some may be so
/// small that their squares are half a unit in the last place of the others', and a sum rounds it
/// upwards each time.
inline void set_groups(Random& random, int significant_bits, SearchedRow row) {
  const ChannelGroups groups(random, row.size());
  const double small = std::exp2(random.uniform(-0.5, 0.5) - 0.5 * significant_bits);
  const double few = random.uniform() < 0.6 ? 0 : random.uniform();
  const double size = std::exp2(random.uniform()), spread = std::exp2(-24 * random.uniform());
  const double negative = random.uniform() < 0.5 ? 0 : random.uniform();
  const bool in_turn = random.uniform() < 0.5;
  Eigen::VectorXd values(groups.count);
  for (double& value : values) {
    value = size * (1 + spread * random.uniform(-1, 1)) * (random.uniform() < negative ? -1 : 1);
    if (random.uniform() < few) value *= small;
  }
  for (Index c = 0; c < row.size(); ++c)
    row(c) = values(groups.of(c)) * (in_turn && c % 2 == 1 ? -1 : 1);
}

inline void set_normal(Random& random, SearchedRow row) {
  const double mean = random.uniform() < 0.5 ? 0 : std::exp2(random.uniform(-4, 20));
  for (double& value : row) value = random.normal(mean);
}

inline void set_row(Random& random, int significant_bits, SearchedRow row) {
  const double kind = random.uniform();
  if (kind < 0.4) {
    set_two_values(random, row);
  } else if (kind < 0.85) {
    set_groups(random, significant_bits, row);
  } else {
    set_normal(random, row);
  }
}

/// An incoming gradient for x: along x̂, which cancels, along the mean, or a row of its own.
inline void set_gradient(Random& random, int significant_bits, const Eigen::RowVectorXd& x,
                         SearchedRow dy) {
  const double kind = random.uniform();
  if (kind < 0.3) {
    dy = (x.array() - x.mean()).sign() * std::exp2(random.uniform());
  } else if (kind < 0.5) {
    dy = x;
  } else if (kind < 0.6) {
    dy.setConstant(std::exp2(random.uniform()));
  } else {
    set_row(random, significant_bits, dy);
  }
}

/// The row moved, stretched, or changed in some channels, a little.
inline void change_row(Random& random, int significant_bits, SearchedRow row) {
  const double step = random.uniform(-1, 1) * std::exp2(-significant_bits * random.uniform());
  const double kind = random.uniform();
  if (kind < 0.25) {
    row.array() += step * row(random.below(row.size()));
  } else if (kind < 0.45) {
    row *= 1 + step;
  } else if (kind < 0.75) {
    const ChannelGroups groups(random, row.size());
    const Index group = random.below(groups.count);
    for (Index c = 0; c < row.size(); ++c)
      if (groups.of(c) == group) row(c) *= 1 + step;
  } else if (kind < 0.95) {
    row(random.below(row.size())) *= 1 + step;
  } else {
    const double value = row(random.below(row.size()));
    row(random.below(row.size())) = random.uniform() < 0.5 ? value : -value;
  }
}

/// The worst row that a search has found, and among how many.
struct FoundRow {
  Eigen::RowVectorXd x, dy;
  long double units = -1;
  Index tried = 0;
};

struct RowSearch {
  Index channels, count;
  Seed seed;
  int significant_bits;
  long double (*rounded)(long double);  ///< to the scalar of the rows
};

/// Rows, and their incoming gradients.
using SearchedRows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using JudgeRows =
    std::function<std::vector<long double>(const SearchedRows& x, const SearchedRows& dy)>;

/// Climbs from the worst of some fresh rows, again and again, and for the last third of `count`
/// rows from the worst of all. `judge(x, dy)` gives the units of error of each row.
inline FoundRow search_rows(const RowSearch& search, const JudgeRows& judge) {
  constexpr Index together = 64, fresh_batches = 4, patience = 16;
  const Index batches = (search.count + together - 1) / together;
  Random random(search.seed);
  FoundRow worst, here;
  Index since_better = patience, fresh = 0;
  SearchedRows x(together, search.channels), dy = x;
  for (Index batch = 0; batch < batches; ++batch) {
    const bool is_last_climb = 3 * batch >= 2 * batches && batch > 0;
    if (is_last_climb) {
      here = worst;
    } else if (since_better >= patience) {
      here = {};
      since_better = 0;
      fresh = fresh_batches;
    }
    const bool is_fresh = fresh > 0 && !is_last_climb;
    if (is_fresh) --fresh;
    for (Index t = 0; t < together; ++t) {
      if (is_fresh) {
        set_row(random, search.significant_bits, x.row(t));
        set_gradient(random, search.significant_bits, x.row(t), dy.row(t));
      } else {
        x.row(t) = here.x;
        dy.row(t) = here.dy;
        const double which = random.uniform();
        if (which < 0.6) change_row(random, search.significant_bits, x.row(t));
        if (which > 0.4) change_row(random, search.significant_bits, dy.row(t));
      }
    }
    for (SearchedRows* rows : {&x, &dy})
      for (double& value : rows->reshaped())
        value = static_cast<double>(search.rounded(static_cast<long double>(value)));
    const std::vector<long double> units = judge(x, dy);
    ++since_better;
    for (Index t = 0; t < together; ++t) {
      const long double of_row = units[static_cast<std::size_t>(t)];
      if (!(of_row > here.units)) continue;
      here = {x.row(t), dy.row(t), of_row, 0};
      if (!is_fresh) since_better = 0;
    }
    if (here.units > worst.units) worst = here;
  }
  worst.tried = batches * together;
  return worst;
}

}  // namespace tokennorm::test
