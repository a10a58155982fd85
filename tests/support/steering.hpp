// SPDX-License-Identifier: MIT
#pragma once

#include <tokennorm/kernels/steering.hpp>

namespace tokennorm::test {

/// However this machine uses its memory, for the length of a scope.
struct Steering {
  explicit Steering(bool steers) { detail::chosen_steering = steers; }
  Steering(const Steering&) = delete;
  Steering& operator=(const Steering&) = delete;
  ~Steering() { detail::chosen_steering = -1; }
};

}  // namespace tokennorm::test
