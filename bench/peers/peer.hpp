// SPDX-License-Identifier: MIT
/// What the benchmarks know of a peer. Each is a shared library of its own that shows only its
/// Peer: inline functions of two units with different flags must not be merged by the linker.
#pragma once

#include "peers/operands.hpp"

#include <memory>

namespace tokennorm::bench {

constexpr bool is_centred(Operation operation) {
  return operation == Operation::layer_norm || operation == Operation::layer_norm_backward ||
         operation == Operation::layer_norm_residual_add ||
         operation == Operation::layer_norm_unstored_sum;
}

/// Everything that can be done before the clock runs is done; call() does the rest.
class Prepared {
 public:
  Prepared() = default;
  Prepared(const Prepared&) = delete;
  Prepared& operator=(const Prepared&) = delete;
  virtual ~Prepared() = default;
  virtual void call() = 0;
};

struct Peer {
  /// Its name in the table; null where it lacks the operation. One that is composed of several
  /// calls says so in the name.
  const char* (*name)(Operation, Dtype);
  std::unique_ptr<Prepared> (*prepare)(const Operands&);
};

/// A Prepared from a callable.
template <class F>
std::unique_ptr<Prepared> prepared(F f) {
  struct Call final : Prepared {
    explicit Call(F&& callable) : f(static_cast<F&&>(callable)) {}
    void call() override { f(); }
    F f;
  };
  return std::make_unique<Call>(static_cast<F&&>(f));
}

}  // namespace tokennorm::bench
