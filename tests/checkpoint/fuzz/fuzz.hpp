// SPDX-License-Identifier: MIT
// What the fuzzers share: any bytes, taken for a file, are read or refused with one error that says
// so; nothing else happens.
#pragma once

#include <tokennorm/checkpoint/stored_tensor.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tokennorm::test {

inline void require(bool holds, const std::string& what) {
  if (holds) return;
  std::cerr << "broken promise: " << what << '\n';
  std::abort();
}

/// The input as a file. A read outside it is a fault of the reader's, seen whatever lies there.
struct Bytes {
  std::string_view all;

  std::uint64_t size() const { return all.size(); }
  void read(std::uint64_t begin, void* to, std::size_t count) const {
    require(begin <= all.size() && count <= all.size() - begin, "reads are inside the file");
    if (count > 0) std::memcpy(to, all.data() + begin, count);
  }
};

/// Calls f; an error is the library's own, and names `who` first.
template <class F>
void read_or_refuse(const F& f, std::string_view who = "tokennorm: fuzz: ") {
  try {
    f();
  } catch (const std::runtime_error& error) {
    const std::string_view message = error.what();
    require(message.starts_with(who), "the error names the file");
    require(message.size() < 2000, "the error is short");
  }
}

template <class Scalar>
void read_values(const Bytes& file, const std::string& name, const detail::TensorEntry& tensor) {
  read_or_refuse([&] {
    const TokenMatrix<Scalar> matrix = detail::read_tensor<Scalar>("fuzz", file, name, tensor);
    Index count = 1;
    for (const Index dimension : tensor.shape) count *= dimension;
    require(matrix.size() == count, "a matrix has all of its tensor");
  });
}

/// The tensor is inside the file, and read as every scalar.
inline void read_tensor(const Bytes& file, const std::string& name,
                        const detail::TensorEntry& tensor) {
  require(tensor.begin <= tensor.end && tensor.end <= file.size(), "offsets are in range");
  read_values<double>(file, name, tensor);
  read_values<float>(file, name, tensor);
  read_values<Eigen::half>(file, name, tensor);
  read_values<Eigen::bfloat16>(file, name, tensor);
}

/// Reads all tensors of a header; their bytes in all.
template <class Header>
std::uint64_t read_tensors(const Bytes& file, const Header& header) {
  std::uint64_t bytes = 0;
  for (const auto& [name, tensor] : header.tensors) {
    bytes += tensor.end - tensor.begin;
    read_tensor(file, name, tensor);
  }
  return bytes;
}

}  // namespace tokennorm::test
