// SPDX-License-Identifier: MIT
// Bits of results, to be printed by programs that must all print the same.
#pragma once

#include <tokennorm/kernels/simd/isa.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>

namespace tokennorm::test {

/// FNV-1a, over the bytes of all that was added.
class Digest {
 public:
  template <class... Ms>
  void add(const Ms&... ms) {
    (add_bytes(ms.data(), static_cast<std::size_t>(ms.size()) * sizeof(typename Ms::Scalar)), ...);
  }
  void print(const char* level, const char* what) const {
    std::printf("%s, %s: %016llx\n", level, what, static_cast<unsigned long long>(value_));
  }

 private:
  void add_bytes(const void* data, std::size_t size) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    for (std::size_t i = 0; i < size; ++i) value_ = (value_ ^ bytes[i]) * 0x100000001b3u;
  }

  std::uint64_t value_ = 0xcbf29ce484222325u;
};

/// body(name) at each ISA level that the machine has.
template <class Body>
void print_every_level(const Body& body) {
  constexpr const char* names[] = {"baseline", "avx2", "avx512"};
  for (const Isa level : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    limit_isa(level);
    if (isa() == level) body(names[static_cast<int>(level)]);
  }
}

}  // namespace tokennorm::test
