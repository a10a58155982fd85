// SPDX-License-Identifier: MIT
// GGUF files that break a rule of the format, each made by hand: one error that names the file, the
// tensor or metadata, and the fault.
#include "files.hpp"
#include "gguf_file.hpp"
#include <tokennorm/checkpoint/gguf.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

using Words = std::vector<std::string_view>;
constexpr std::uint64_t beyond = std::uint64_t{1} << 60;  // what no file has
constexpr std::uint32_t f32 = 0;

std::string start(std::uint32_t version, std::uint64_t tensors, std::uint64_t metadata) {
  return "GGUF" + raw(version) + raw(tensors) + raw(metadata);
}
/// One key and what follows.
BadFile bad_value(std::uint32_t kind, const std::string& rest, Words words) {
  return {start(3, 0, 1) + gguf_text("k") + raw(kind) + rest, std::move(words)};
}
BadFile bad_array(std::uint32_t kind, std::uint64_t size, const std::string& rest, Words words) {
  return bad_value(9, raw(kind) + raw(size) + rest, std::move(words));
}
/// One tensor's entry after its name.
BadFile bad_tensor(const std::string& rest, Words words) {
  words.insert(words.begin(), "tensor \"x\"");
  return {start(3, 1, 0) + gguf_text("x") + rest, std::move(words)};
}
BadFile bad(const GgufFile& file, Words words) { return {file.bytes(), std::move(words)}; }
std::string dimensions(const std::vector<std::uint64_t>& fastest_first) {
  std::string bytes = raw(static_cast<std::uint32_t>(fastest_first.size()));
  for (const std::uint64_t size : fastest_first) bytes += raw(size);
  return bytes;
}
std::string place(std::uint32_t type, std::uint64_t offset) { return raw(type) + raw(offset); }

std::vector<BadFile> bad_files() {
  const std::string four(4, 'x'), eight(8, 'x');
  const std::string pad(64, '\0');
  return {
      // The beginning.
      {"", {"the file starts with \"\"", "expected \"GGUF\""}},
      {"GGU", {"the file starts with \"GGU\"", "expected \"GGUF\""}},
      {"GGML" + pad, {"the file starts with \"GGML\"", "expected \"GGUF\""}},
      {"FUGG" + pad, {"the file starts with \"FUGG\"", "expected \"GGUF\""}},
      {std::string(1000, '\n'), {"the file starts with \"\\x0a\\x0a\\x0a\\x0a\""}},
      {"GGUF", {"has 4 bytes", "at least 24"}},
      {start(3, 0, 0).substr(0, 23), {"has 23 bytes", "at least 24"}},
      {start(0, 0, 0), {"is GGUF of version 0", "expected 2 or 3"}},
      {start(1, 0, 0), {"is GGUF of version 1", "expected 2 or 3"}},
      {start(4, 0, 0), {"is GGUF of version 4", "expected 2 or 3"}},
      {start(0x03000000, 0, 0), {"is a big-endian GGUF file", "little-endian"}},
      {start(0x02000000, 0, 0), {"is a big-endian GGUF file", "little-endian"}},

      // Counts.
      {start(3, 1, 0), {"the number of tensors is 1", "at most the 0"}},
      {start(3, 3, 0) + pad, {"the number of tensors is 3", "at most the 2"}},
      {start(3, beyond, 0) + pad, {"the number of tensors is 1152921504606846976", "the 2"}},
      {start(3, ~std::uint64_t{0}, 0), {"the number of tensors is 18446744073709551615"}},
      {start(3, 0, 1), {"the number of metadata is 1", "at most the 0"}},
      {start(3, 0, 5) + pad, {"the number of metadata is 5", "at most the 4"}},
      {start(3, 0, beyond) + pad, {"the number of metadata is 1152921504606846976", "the 4"}},
      {start(3, 0, ~std::uint64_t{0}), {"the number of metadata is 18446744073709551615"}},

      // Keys.
      {start(3, 0, 1) + raw(beyond) + pad,
       {"metadata 0: its key takes 1152921504606846976 bytes", "at most the 64 that the file"}},
      {start(3, 0, 1) + raw(~std::uint64_t{0}) + pad,
       {"metadata 0: its key takes 18446744073709551615 bytes"}},
      {start(3, 0, 1) + raw(std::uint64_t{6}) + "12345",
       {"metadata 0: its key takes 6 bytes", "at most the 5"}},
      {GgufFile().text("k", "1").text("k", "2").bytes(), {"metadata \"k\"", "twice"}},
      {GgufFile().text("k", "1").number("k", 2.0).bytes(), {"metadata \"k\"", "twice"}},
      {start(3, 0, 1) + gguf_text("a\nb") + raw(std::uint32_t{13}) + eight,
       {"metadata \"a\\x0ab\": its type is 13"}},

      // Values.
      bad_value(13, eight, {"metadata \"k\": its type is 13", "0 to 12"}),
      bad_value(0xffffffff, eight, {"metadata \"k\": its type is 4294967295", "0 to 12"}),
      bad_value(8, "1234", {"metadata \"k\": its value takes 8 bytes", "at most the 4"}),
      bad_value(8, raw(beyond),
                {"metadata \"k\": its value takes 1152921504606846976 bytes", "at most the 0"}),
      bad_value(8, raw(std::uint64_t{3}) + "ab",
                {"metadata \"k\": its value takes 3 bytes", "at most the 2"}),
      bad_value(12, four, {"metadata \"k\": its value takes 8 bytes", "at most the 4"}),
      bad_value(7, "\2", {"metadata \"k\": is 2", "a boolean, 0 or 1"}),
      bad_value(7, "\xff", {"metadata \"k\": is 255", "a boolean, 0 or 1"}),

      // Arrays.
      bad_value(9, std::string(4, '\0'),
                {"metadata \"k\": its length takes 8 bytes", "at most the 0"}),
      bad_value(9, "123", {"metadata \"k\": the type of its elements takes 4 bytes", "the 3"}),
      bad_array(13, 0, "", {"metadata \"k\": the type of its elements is 13", "0 to 12"}),
      bad_array(0, beyond, eight,
                {"metadata \"k\": its length is 1152921504606846976", "at most the 8 elements"}),
      bad_array(12, ~std::uint64_t{0}, eight,
                {"metadata \"k\": its length is 18446744073709551615", "at most the 1 elements"}),
      bad_array(10, (std::uint64_t{1} << 61) + 1, eight, {"metadata \"k\": its length is 230584"}),
      bad_array(8, 2, raw(std::uint64_t{0}) + "1234567", {"metadata \"k\": its length is 2", "1"}),
      bad_array(8, 1, raw(beyond),
                {"metadata \"k\": a string of it takes 1152921504606846976 bytes", "the 0"}),
      bad_array(8, 1, raw(~std::uint64_t{0}) + eight, {"metadata \"k\": a string of it takes 184"}),
      bad_array(9, beyond, pad,
                {"metadata \"k\": its length is 1152921504606846976", "at most the 5 elements"}),
      bad_array(9, 2, raw(std::uint32_t{9}) + raw(std::uint64_t{1}) + eight + four,
                {"metadata \"k\": the type of its elements is 2021161080"}),
      bad_array(9, 2, raw(std::uint32_t{0}) + raw(std::uint64_t{4}),
                {"metadata \"k\": its length is 2", "at most the 1"}),
      bad_array(9, 1, raw(std::uint32_t{0}) + raw(beyond), {"metadata \"k\": its length is 1152"}),

      // The alignment.
      bad(GgufFile().number("general.alignment", std::uint32_t{0}), {"alignment is 0", "of 8"}),
      bad(GgufFile().number("general.alignment", std::uint32_t{4}), {"alignment is 4", "of 8"}),
      bad(GgufFile().number("general.alignment", std::uint32_t{33}), {"alignment is 33", "of 8"}),
      bad(GgufFile().number("general.alignment", std::uint64_t{1} << 63),
          {"alignment is 9223372036854775808", "below 2³²"}),
      bad(GgufFile().number("general.alignment", std::int32_t{32}), {"alignment is no u32"}),
      bad(GgufFile().number("general.alignment", 32.0F), {"alignment is no u32"}),
      bad(GgufFile().text("general.alignment", "32"), {"alignment is no u32"}),

      // Names.
      {start(3, 1, 0) + raw(beyond) + pad,
       {"tensor 0: its name takes 1152921504606846976 bytes", "at most the 64"}},
      bad(GgufFile().add("x", {1}, f32, four).add("x", {1}, f32, four),
          {"tensor \"x\": stands there twice"}),
      bad(GgufFile().add("x", {0}, f32, "").add("x", {}, f32, four),
          {"tensor \"x\": stands there twice"}),

      // Shapes and types.
      bad_tensor(std::string(15, '\0'), {"its offset takes 8 bytes", "at most the 7"}),
      bad_tensor(raw(std::uint32_t{5}) + pad, {"has 5 dimensions", "at most 4"}),
      bad_tensor(raw(std::uint32_t{0xffffffff}) + pad, {"has 4294967295 dimensions", "at most 4"}),
      bad_tensor(raw(std::uint32_t{2}) + raw(std::uint64_t{3}) + eight,
                 {"its type takes 4 bytes", "at most the 0"}),
      bad_tensor(raw(std::uint32_t{3}) + raw(std::uint64_t{3}) + eight,
                 {"its shape takes 8 bytes", "at most the 0"}),
      bad_tensor(dimensions({std::uint64_t{1} << 63}) + place(f32, 0) + pad,
                 {"shape holds 9223372036854775808", "2⁶³ - 1"}),
      bad_tensor(dimensions({std::uint64_t{1} << 32, std::uint64_t{1} << 31}) + place(f32, 0),
                 {"shape is [2147483648, 4294967296] of F32", "less than 2⁶³ elements"}),
      bad_tensor(dimensions({0, std::uint64_t{1} << 32, std::uint64_t{1} << 31}) + place(f32, 0),
                 {"shape is [2147483648, 4294967296, 0] of F32", "less than 2⁶³ elements"}),
      bad_tensor(dimensions({std::uint64_t{1} << 62}) + place(f32, 0) + pad,
                 {"shape is [4611686018427387904] of F32", "less than 2⁶⁴ bytes"}),
      bad_tensor(dimensions({std::uint64_t{1} << 61}) + place(f32, std::uint64_t{1} << 63) + pad,
                 {"shape is [2305843009213693952] of F32", "less than 2⁶⁴ bytes"}),
      bad_tensor(dimensions({std::uint64_t{1} << 62, 2}) + place(99, 0) + pad,
                 {"shape is [2, 4611686018427387904] of type 99", "less than 2⁶³ elements"}),
      bad_tensor(dimensions({255}) + place(12, 0) + pad,
                 {"shape is [255] of Q4_K", "rows of a multiple of 256"}),
      bad_tensor(dimensions({32, 8}) + place(12, 0) + pad,
                 {"shape is [8, 32] of Q4_K", "rows of a multiple of 256"}),
      bad_tensor(dimensions({}) + place(8, 0) + pad, {"shape is [] of Q8_0", "a multiple of 32"}),

      // Places.
      {GgufFile().add_at("x", {0}, f32, 0).header(),
       {"the file has 57 bytes", "at least the 64 before the data"}},
      bad(GgufFile().add_at("x", {1}, f32, 0, "123"),
          {"tensor \"x\"", "bytes [0, 4] of the data", "at most the 3"}),
      bad(GgufFile().add_at("x", {}, f32, 0), {"tensor \"x\"", "[0, 4]", "at most the 0"}),
      bad(GgufFile().add_at("x", {16}, f32, 32, std::string(95, 'x')),
          {"tensor \"x\"", "[32, 96]", "at most the 95"}),
      bad(GgufFile().add_at("x", {0}, f32, 32, four), {"tensor \"x\"", "[32, 32]", "the 4"}),
      bad(GgufFile().add_at("x", {1}, 99, beyond, four),
          {"tensor \"x\"", "[1152921504606846976, 1152921504606846976]", "the 4"}),
      bad(GgufFile().add_at("x", {1}, f32, 4, pad), {"offset is 4", "a multiple of 32"}),
      bad(GgufFile().add_at("x", {0}, f32, 4, pad), {"offset is 4", "a multiple of 32"}),
      bad(GgufFile().number("general.alignment", std::uint32_t{64}).add_at("x", {1}, f32, 32, pad),
          {"tensor \"x\": offset is 32", "a multiple of 64"}),
      bad(GgufFile().add_at("x", {1}, f32, 0, four).add_at("y", {1}, f32, 0),
          {"tensor \"y\": begins at byte 0 of the data, inside tensor \"x\", which ends at 4"}),
      bad(GgufFile().add_at("x", {33}, 24, 0, pad).add_at("y", {1}, 24, 32),
          {"tensor \"y\": begins at byte 32 of the data, inside tensor \"x\", which ends at 33"}),
      bad(GgufFile().add_at("y", {9}, f32, 0, pad).add_at("x", {1}, f32, 32),
          {"tensor \"x\": begins at byte 32 of the data, inside tensor \"y\", which ends at 36"}),
  };
}

TEST(BadGgufFiles, AreRefusedWithWordsThatNameTheFault) {
  const std::vector<BadFile> files = bad_files();
  EXPECT_GE(files.size(), 70U);
  expect_refused(files, "bad.gguf", Gguf::open);
}

TEST(BadGgufFiles, EveryPrefixOfAGoodFileIsRefused) {
  GgufFile good;
  good.text("general.architecture", "llama").number("e", 1e-5F).number("yes", true);
  good.value("words", 9, raw(std::uint32_t{8}) + raw(std::uint64_t{1}) + gguf_text("one"));
  good.add("x", {2, 3}, f32, std::string(24, 'x')).add("y", {1}, 1, "yy");
  expect_every_prefix_refused(good.bytes(), "cut.gguf", Gguf::open);
}

TEST(BadGgufFiles, WhatIsNoFileIsRefused) {
  const TemporaryFolder folder;
  expect_error([&] { Gguf::open(folder / "none.gguf"); },
               {"none.gguf", "cannot be opened", "No such file"});
  expect_error([&] { Gguf::open(folder.path()); }, {folder.path().string(), "is not a file"});
}

TEST(BadGgufFiles, OfAnotherKindAreNamed) {
  const std::pair<std::string, std::string> files[] = {
      {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 548105171\n",
       "is a Git LFS pointer, not the file; run git lfs pull"},
      {"<!DOCTYPE html>\n<html><head>", "is an HTML page, and not the file that was to be "},
      {std::string("PK\3\4\0\0\x08\x08\0\0model/data.pkl", 24), "is a zip archive"},
      {file_bytes("{}"), "is a safetensors file; open it with Safetensors::open"}};
  for (const auto& [bytes, words] : files) expect_refused({{bytes, {words}}}, "x.gguf", Gguf::open);
}

/// Counts and lengths that a file of 1 TB, all of it a hole, has room for: nothing of that size is
/// asked of memory.
TEST(BadGgufFiles, HeadersBeyondTheLimitAreRefused) {
  const std::pair<std::string, Words> headers[] = {
      {start(3, 0, 1) + gguf_text("k") + raw(std::uint32_t{8}) +
           raw(std::uint64_t{500'000'000'000}),
       {"metadata \"k\": its value takes 500000000000 bytes", "the 100 MB of a header have left"}},
      {start(3, 0, 1) + gguf_text("k") + raw(std::uint32_t{9}) + raw(std::uint32_t{0}) +
           raw(std::uint64_t{200'000'000}),
       {"metadata \"k\": its length is 200000000", "room for"}},
      {start(3, 20'000'000'000, 0), {"the number of tensors is 20000000000", "the 4166665 that"}},
      {start(3, 0, 20'000'000'000), {"the number of metadata is 20000000000", "room for"}},
      {start(3, 4'000'000, 0), {"tensor \"\": stands there twice"}},
  };
  for (const auto& [header, words] : headers) {
    const TemporaryFolder folder;
    const auto path = folder.write("hole.gguf", header);
    std::error_code error;
    std::filesystem::resize_file(path, 1'000'000'000'000, error);
    if (error) GTEST_SKIP() << "no such file here: " << error.message();
    expect_error([&] { Gguf::open(path); }, words);
  }
}

}  // namespace
}  // namespace tokennorm::test
