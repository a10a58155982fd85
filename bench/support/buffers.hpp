// SPDX-License-Identifier: MIT
/// Memory for one repetition, with random contents at a random place.
#pragma once

#include "support/shape.hpp"
#include <tokennorm/core/tokens.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

namespace tokennorm::bench {

inline std::mt19937_64& random_engine() {
  static std::mt19937_64 engine(20);
  return engine;
}

/// Fills with normal deviates. They are drawn once and repeated from a random one on: drawing them
/// anew for every buffer would take longer than the measurements.
template <class Scalar>
void fill_normal(Scalar* to, Index size) {
  static const std::vector<Scalar> pool = [] {
    std::vector<Scalar> values(65521);  // a prime, so that no shape repeats with the rows
    std::normal_distribution<float> normal;
    for (Scalar& value : values) value = static_cast<Scalar>(normal(random_engine()));
    return values;
  }();
  auto from = static_cast<Index>(random_engine()() % pool.size());
  while (size > 0) {
    const Index count = std::min(size, static_cast<Index>(pool.size()) - from);
    to = std::copy_n(pool.data() + from, count, to);
    size -= count;
    from = 0;
  }
}

/// Tokens on their own memory, which starts at a random cache line of a page: the time of one and
/// the same copy depends on where its operands lie relative to each other.
template <class Scalar>
class Buffer {
 public:
  explicit Buffer(Shape shape) : shape_(shape) {
    constexpr std::size_t page = 4096, line = 64;
    const std::size_t bytes = static_cast<std::size_t>(shape.size()) * sizeof(Scalar);
    const std::size_t lead = random_engine()() % (page / line) * line;
    memory_.reset(std::aligned_alloc(line, (lead + bytes + line - 1) / line * line));
    data_ = reinterpret_cast<Scalar*>(static_cast<std::byte*>(memory_.get()) + lead);
    fill_normal(data_, shape.size());
  }

  Scalar* data() { return data_; }
  auto view() { return tokens(data_, shape_.tokens, shape_.channels); }
  auto const_view() const {
    return tokens(static_cast<const Scalar*>(data_), shape_.tokens, shape_.channels);
  }
  /// The same memory with contiguous tokens.
  auto column_major() {
    using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;
    return Eigen::Map<Matrix>(data_, shape_.tokens, shape_.channels);
  }

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  Shape shape_;
  std::unique_ptr<void, Free> memory_;
  Scalar* data_;
};

/// Parameters that are neither one nor zero.
template <class Norm>
Norm with_random_parameters(Norm norm) {
  using Param = typename Norm::ParamScalar;
  fill_normal(norm.scale().data(), norm.scale().size());
  fill_normal(norm.shift().data(), norm.shift().size());
  norm.scale() = norm.scale() * Param(0.1) + Norm::Vector::Ones(norm.scale().size());
  return norm;
}

}  // namespace tokennorm::bench
