// SPDX-License-Identifier: MIT
// What a rank has of tokens that all ranks know.
#pragma once

#include "../support/random_tokens.hpp"
#include <tokennorm/adapters/mpi.hpp>

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace tokennorm::test {

inline int rank() {
  int number = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &number);
  return number;
}
inline int ranks() {
  int number = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &number);
  return number;
}

/// Of so many channels or tokens: the first rank has the most, and the last at least one.
struct Share {
  Index first, count;

  explicit Share(Index all, int of_rank = rank()) : first(0), count(all) {
    for (int r = 0; r <= of_rank; ++r) {
      first += r == 0 ? 0 : count;
      const Index left = all - first, others = ranks() - 1 - r;
      count = others == 0 ? left : std::max<Index>(1, std::min(left - others, (left + 1) / 2));
    }
  }
  template <class X>
  auto of_channels(X& x) const {
    return x.middleCols(first, count);
  }
  template <class X>
  auto of_tokens(X& x) const {
    return x.middleRows(first, count);
  }
};

/// The norm of this rank's channels.
template <class Norm>
Sharded<Norm> shard_of(const Norm& norm) {
  const Share share(norm.channels());
  Norm part(share.count, norm.options());
  if (norm.options().scale) part.scale() = norm.scale().segment(share.first, share.count);
  if (norm.options().shift) part.shift() = norm.shift().segment(share.first, share.count);
  return sharded(part, MPI_COMM_WORLD);
}

/// Whether all ranks have the bits that the first has.
template <class Values>
bool same_bits_on_all_ranks(const Values& values) {
  Values first = values;
  const auto bytes = static_cast<std::size_t>(values.size()) * sizeof(values(0));
  MPI_Bcast(first.data(), static_cast<int>(bytes), MPI_BYTE, 0, MPI_COMM_WORLD);
  return bytes == 0 || std::memcmp(first.data(), values.data(), bytes) == 0;
}

}  // namespace tokennorm::test
