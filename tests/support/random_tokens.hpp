// SPDX-License-Identifier: MIT
// Reproducible random data. A test names its seed and prints it on failure: SCOPED_TRACE(seed).
#pragma once

#include "edge_shapes.hpp"
#include "scalars.hpp"

#include <Eigen/Core>

#include <cmath>
#include <cstdint>
#include <ostream>
#include <random>

namespace tokennorm::test {

/// Prints itself, so that a failure says which numbers it had.
struct Seed {
  std::uint64_t value;
  friend std::ostream& operator<<(std::ostream& out, const Seed& seed) {
    return out << "seed " << seed.value;
  }
};

/// Only the engine is the standard library's: its distributions differ from one to the other.
class Random {
 public:
  explicit Random(Seed seed) : engine_(seed.value) {}

  /// Uniform in (low, high).
  double uniform(double low = 0, double high = 1) {
    return low + (high - low) * ((static_cast<double>(engine_() >> 11) + 0.5) * 0x1p-53);
  }
  /// Box and Muller's; they come in pairs.
  double normal(double mean = 0, double deviation = 1) {
    if (has_spare_) {
      has_spare_ = false;
      return mean + deviation * spare_;
    }
    const double radius = std::sqrt(-2 * std::log(uniform()));
    const double angle = 6.283185307179586 * uniform();
    spare_ = radius * std::sin(angle);
    has_spare_ = true;
    return mean + deviation * radius * std::cos(angle);
  }
  Index below(Index count) {
    return static_cast<Index>(engine_() % static_cast<std::uint64_t>(count));
  }
  double sign() { return (engine_() >> 63) != 0 ? 1.0 : -1.0; }

 private:
  std::mt19937_64 engine_;
  double spare_ = 0;
  bool has_spare_ = false;
};

/// A matrix or vector of the given type; element (r, c) does not depend on the storage order.
template <class Matrix>
[[gnu::noinline]] Matrix random_normal(Shape shape, Random& random, double mean = 0,
                                       double deviation = 1) {
  Matrix result(shape.tokens, shape.channels);
  for (Index t = 0; t < shape.tokens; ++t)
    for (Index c = 0; c < shape.channels; ++c)
      result(t, c) =
          finite<typename Matrix::Scalar>(static_cast<long double>(random.normal(mean, deviation)));
  return result;
}

template <class Matrix>
[[gnu::noinline]] Matrix random_normal(Shape shape, Seed seed, double mean = 0,
                                       double deviation = 1) {
  Random random(seed);
  return random_normal<Matrix>(shape, random, mean, deviation);
}

template <class Scalar>
[[gnu::noinline]] Eigen::Matrix<Scalar, Eigen::Dynamic, 1> random_vector(Index size, Seed seed,
                                                                         double mean = 0,
                                                                         double deviation = 1) {
  return random_normal<Eigen::Matrix<Scalar, Eigen::Dynamic, 1>>({size, 1}, seed, mean, deviation);
}

}  // namespace tokennorm::test
