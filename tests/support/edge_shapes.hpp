// SPDX-License-Identifier: MIT
// Token counts and channel counts around every width at which a kernel changes its ways.
#pragma once

#include <Eigen/Core>

#include <ostream>
#include <vector>

namespace tokennorm::test {

struct Shape {
  Eigen::Index tokens;
  Eigen::Index channels;

  friend std::ostream& operator<<(std::ostream& out, const Shape& shape) {
    return out << shape.tokens << " x " << shape.channels << " (tokens x channels)";
  }
};

/// Up to two dozen lanes, odd, prime, one beside each power of two.
inline const std::vector<Eigen::Index>& few_channels() {
  static const std::vector<Eigen::Index> counts = {1,  2,  3,  4,  5,  7,  8,   9,   15,
                                                   16, 17, 31, 32, 33, 97, 100, 129, 333};
  return counts;
}

/// Where the machine is emulated, the tests' long double is software on software: no long rows.
#if defined(TOKENNORM_EMULATED)
inline constexpr Eigen::Index longest_row = 150;
#else
inline constexpr Eigen::Index longest_row = 65536;
#endif

inline std::vector<Eigen::Index> without_long_rows(std::vector<Eigen::Index> counts) {
  std::erase_if(counts, [](Eigen::Index channels) { return channels > longest_row; });
  return counts;
}

inline const std::vector<Eigen::Index>& edge_channels() {
  static const auto counts = without_long_rows(
      {1,  2,  3,  4,   5,   7,   8,   9,   15,  16,  17,   31,   32,   33,   63,
       64, 65, 97, 100, 127, 128, 129, 255, 333, 768, 1000, 4095, 4096, 4097, 65536});
  return counts;
}

/// Fewer, for what takes longer.
inline const std::vector<Eigen::Index>& gradient_channels() {
  static const auto counts =
      without_long_rows({1, 2, 3, 8, 15, 16, 17, 33, 100, 129, 301, 768, 4097});
  return counts;
}

inline const std::vector<Eigen::Index>& edge_token_counts() {
  static const std::vector<Eigen::Index> counts = {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33};
  return counts;
}

/// A few tokens of every small channel count.
inline std::vector<Shape> edge_shapes() {
  std::vector<Shape> shapes;
  for (const Eigen::Index tokens : {1, 3, 4, 5, 9, 17})
    for (const Eigen::Index channels : few_channels()) shapes.push_back({tokens, channels});
  return shapes;
}

}  // namespace tokennorm::test
