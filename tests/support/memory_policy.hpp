// SPDX-License-Identifier: MIT
#pragma once

#include <tokennorm/kernels/memory_policy.hpp>

namespace tokennorm::test {

/// However this machine uses its memory, for the length of a scope.
struct ManagedMemory {
  explicit ManagedMemory(bool manages) { detail::chosen_memory_policy = manages; }
  ManagedMemory(const ManagedMemory&) = delete;
  ManagedMemory& operator=(const ManagedMemory&) = delete;
  ~ManagedMemory() { detail::chosen_memory_policy = -1; }
};

}  // namespace tokennorm::test
