// SPDX-License-Identifier: MIT
// libFuzzer: any bytes, taken for a file and for an index, are read or refused with one error that
// says so; nothing else happens. What is read keeps what the header's checks promise.
//
//   fuzz_safetensors -max_total_time=60 -dict=safetensors.dict NEW_CORPUS corpus
//
// The seeds in corpus/ are tiny files, named for what they have.
#include <tokennorm/checkpoint/safetensors.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

using tokennorm::Index;
using tokennorm::TokenMatrix;
namespace detail = tokennorm::detail;

void require(bool holds, const std::string& what) {
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

/// Calls f; an error is the library's own.
template <class F>
void read_or_refuse(const F& f) {
  try {
    f();
  } catch (const std::runtime_error& error) {
    const std::string_view message = error.what();
    require(message.starts_with("tokennorm: fuzz: "), "the error names the file");
    require(message.size() < 2000, "the error is short");
  }
}

template <class Scalar>
void read_tensor(const Bytes& file, const std::string& name, const detail::TensorEntry& tensor) {
  read_or_refuse([&] {
    const TokenMatrix<Scalar> matrix = detail::read_tensor<Scalar>("fuzz", file, name, tensor);
    Index count = 1;
    for (const Index dimension : tensor.shape) count *= dimension;
    require(matrix.size() == count, "a matrix has all of its tensor");
  });
}

void read_file(const Bytes& file) {
  const detail::SafetensorsHeader header = detail::read_header("fuzz", file);
  std::uint64_t bytes_of_tensors = 0;
  for (const auto& [name, tensor] : header.tensors) {
    require(tensor.begin <= tensor.end && tensor.end <= file.size(), "offsets are in range");
    bytes_of_tensors += tensor.end - tensor.begin;
    read_tensor<double>(file, name, tensor);
    read_tensor<float>(file, name, tensor);
    read_tensor<Eigen::half>(file, name, tensor);
    read_tensor<Eigen::bfloat16>(file, name, tensor);
  }
  std::uint64_t length = 0;
  std::memcpy(&length, file.all.data(), sizeof length);
  require(8 + length + bytes_of_tensors == file.size(), "tensors fill the data");
}

void read_index(std::string_view text) {
  for (const auto& [name, shard] : detail::parse_shard_index("fuzz", text))
    require(!shard.empty() && shard.find('/') == shard.npos && shard != "..",
            "a shard stands in the index's folder");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  read_or_refuse([&] { read_file({input}); });
  read_or_refuse([&] { read_index(input); });
  return 0;
}
