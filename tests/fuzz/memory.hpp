// SPDX-License-Identifier: MIT
// Where the fuzzer puts operands: between pages that fault when they are touched, with any strides,
// and with a copy of all that was there before a call.
#pragma once

#include "fuzzed_case.hpp"

#include <Eigen/Core>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

namespace tokennorm::test {

/// Some memory, and a page that nobody may touch on either side of it.
class GuardedMemory {
 public:
  static constexpr std::size_t size = std::size_t{1} << 21;

  GuardedMemory() : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))) {
    void* const all =
        mmap(nullptr, size + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    begin_ = static_cast<std::byte*>(all) + page_;
    if (all == MAP_FAILED || mprotect(begin_, size, PROT_READ | PROT_WRITE) != 0) std::abort();
  }
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;
  ~GuardedMemory() { munmap(begin_ - page_, size + 2 * page_); }

  std::byte* begin() const { return begin_; }

 private:
  std::size_t page_;
  std::byte* begin_;
};

/// An operand in memory, in elements: strides of any sign, or 0.
template <class Scalar>
struct Place {
  Scalar* data;
  Shape shape;
  Index token_stride, channel_stride;

  Scalar& at(Index t, Index c) const { return data[t * token_stride + c * channel_stride]; }
  template <class Matrix>
  using Map = Eigen::Map<Matrix, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;

  /// As a map of a Matrix type, in whose storage order the strides need not be.
  template <class Matrix>
  Map<Matrix> as() const {
    using Strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
    const Strides strides = Matrix::IsRowMajor ? Strides(token_stride, channel_stride)
                                               : Strides(channel_stride, token_stride);
    return {data, shape.tokens, shape.channels, strides};
  }
  TokenMatrix<Scalar> values() const {
    TokenMatrix<Scalar> result(shape.tokens, shape.channels);
    for (Index t = 0; t < shape.tokens; ++t)
      for (Index c = 0; c < shape.channels; ++c) result(t, c) = at(t, c);
    return result;
  }
  void fill(const TokenMatrix<Scalar>& values) const {
    for (Index t = 0; t < shape.tokens; ++t)
      for (Index c = 0; c < shape.channels; ++c) at(t, c) = values(t, c);
  }
  template <class Other>
  bool is_same_as(const Place<Other>& other) const {
    return std::is_same_v<Scalar, Other> &&
           static_cast<const void*>(data) == static_cast<const void*>(other.data) &&
           (shape.tokens <= 1 || token_stride == other.token_stride) &&
           (shape.channels <= 1 || channel_stride == other.channel_stride);
  }
};

/// The bytes of an operand's elements, each as often as it is one of an element.
template <class Scalar>
std::vector<const std::byte*> bytes_of(const Place<Scalar>& place) {
  std::vector<const std::byte*> bytes;
  for (Index t = 0; t < place.shape.tokens; ++t)
    for (Index c = 0; c < place.shape.channels; ++c)
      for (std::size_t i = 0; i < sizeof(Scalar); ++i)
        bytes.push_back(reinterpret_cast<const std::byte*>(&place.at(t, c)) + i);
  std::sort(bytes.begin(), bytes.end());
  return bytes;
}

/// Whether two elements of one operand are one in memory.
template <class Scalar>
bool overlaps_itself(const Place<Scalar>& place) {
  const auto bytes = bytes_of(place);
  return std::adjacent_find(bytes.begin(), bytes.end()) != bytes.end();
}

template <class A, class B>
bool share_a_byte(const Place<A>& a, const Place<B>& b) {
  const auto of_a = bytes_of(a), of_b = bytes_of(b);
  return std::any_of(of_a.begin(), of_a.end(), [&](const std::byte* byte) {
    return std::binary_search(of_b.begin(), of_b.end(), byte);
  });
}

}  // namespace tokennorm::test
