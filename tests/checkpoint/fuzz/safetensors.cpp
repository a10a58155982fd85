// SPDX-License-Identifier: MIT
// libFuzzer: any bytes, taken for a file and for an index, are read or refused with one error that
// says so; nothing else happens. What is read keeps what the header's checks promise.
//
//   fuzz_safetensors -max_total_time=60 -dict=safetensors.dict NEW_CORPUS safetensors_corpus
//
// The seeds in safetensors_corpus/ are tiny files, named for what they have.
#include "fuzz.hpp"
#include <tokennorm/checkpoint/safetensors.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace {

using namespace tokennorm::test;
namespace detail = tokennorm::detail;

void read_file(const Bytes& file) {
  const detail::SafetensorsHeader header = detail::read_header("fuzz", file);
  const std::uint64_t bytes_of_tensors = read_tensors(file, header);
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
