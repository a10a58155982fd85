// SPDX-License-Identifier: MIT
// libFuzzer: any bytes, taken for a GGUF file, are read or refused with one error that says so;
// nothing else happens. What is read keeps what the header's checks promise.
//
//   fuzz_gguf -max_total_time=60 -dict=gguf.dict NEW_CORPUS gguf_corpus
//
// The seeds in gguf_corpus/ are tiny files, named for what they have.
#include "fuzz.hpp"
#include <tokennorm/checkpoint/gguf.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace {

using namespace tokennorm::test;
namespace detail = tokennorm::detail;

void read_file(const Bytes& file) {
  const detail::GgufHeader header = detail::read_gguf_header("fuzz", file);
  const std::uint64_t bytes_of_tensors = read_tensors(file, header);
  require(bytes_of_tensors + 24 <= file.size(), "tensors do not overlap");
  read_or_refuse(
      [&] {
        const tokennorm::Family family =
            detail::GgufModel("fuzz", header.metadata, [&](const std::string& name) {
              return header.tensors.contains(name);
            }).family(nullptr);
        require(std::isfinite(family.epsilon) && family.epsilon >= 0, "epsilon is a number");
        require(family.scale_offset == 0, "the scale offset is in the file");
      },
      "tokennorm: family_from_gguf: fuzz: ");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  read_or_refuse([&] { read_file({input}); });
  return 0;
}
