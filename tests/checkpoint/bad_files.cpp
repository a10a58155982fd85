// SPDX-License-Identifier: MIT
// Files that break a rule of the format, each made by hand: one error that names the file, the
// tensor and the fault.
#include "files.hpp"
#include <tokennorm/checkpoint/safetensors.hpp>

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

struct BadFile {
  std::string bytes;
  std::vector<std::string_view> words;  // of the message
};

/// A file with these tensors of the given bytes of data.
BadFile bad(std::string_view header, std::size_t data_size, std::vector<std::string_view> words) {
  return {file_bytes(header, data_size), std::move(words)};
}

const std::string_view x24 = R"("x":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]})";

std::string deep(std::string_view before, char bracket, std::size_t depth) {
  return std::string(before) + std::string(depth, bracket);
}

std::vector<BadFile> bad_files() {
  const std::string x(x24);
  const auto huge = std::string(300, 'n');
  return {
      // The length of the header.
      {"", {"has 0 bytes", "at least 8"}},
      {"1234567", {"has 7 bytes", "at least 8"}},
      {length_bytes(0), {"starts with \"\"", "'{'"}},
      {length_bytes(1), {"length is 1;", "the 0 bytes"}},
      {length_bytes(3) + "{}", {"length is 3;", "the 2 bytes"}},
      {length_bytes(100'000'001) + "{}", {"length is 100000001", "the 2 bytes"}},
      {length_bytes(0xffffffffffffffff) + "{}", {"length is 18446744073709551615", "at most"}},
      {length_bytes(0x8000000000000000) + "{}", {"length is 9223372036854775808", "at most"}},

      // JSON.
      bad("", 8, {"starts with \"\""}),
      bad(" {}", 0, {"the header starts with \" \"", "'{'"}),
      bad("\xef\xbb\xbf{}", 0, {"the header starts with", "'{'"}),
      bad("[]", 0, {"the header starts with \"[\""}),
      bad("{", 0, {"is not JSON at byte"}),
      bad("{}}", 0, {"is not JSON at byte 3"}),
      bad("{} {}", 0, {"is not JSON at byte 4"}),
      bad("{'x':1}", 0, {"is not JSON at byte 2"}),
      bad("{" + x + ",}", 24, {"is not JSON at byte"}),
      bad("{/**/" + x + "}", 24, {"is not JSON at byte"}),
      bad("{\"a\xff\":{}}", 0, {"is not JSON at byte 4"}),
      bad("{\"\xc0\x80\":{}}", 0, {"is not JSON at byte"}),
      bad(R"({"\ud800":{}})", 0, {"is not JSON at byte"}),
      bad("{\"a\nb\":{}}", 0, {"is not JSON at byte"}),
      bad(std::string("{}\0", 3), 0, {"a NUL at byte 2"}),
      bad(std::string("{}\0{\"x\":", 8), 0, {"a NUL at byte 2"}),
      bad(deep("{\"x\":", '[', 1'000'000), 0, {"tensor \"x\"", "is an array", "an object"}),
      bad(deep("{\"x\":{\"shape\":", '[', 1'000'000), 0, {"tensor \"x\"", "shape holds an array"}),
      bad(deep("{\"x\":{\"dtype\":", '{', 1'000'000), 0, {"dtype is an object", "a string"}),

      // Names.
      bad("{" + x + "," + x + "}", 24, {"tensor \"x\"", "twice"}),
      bad(R"({"x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},)"
          R"("\u0078":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})",
          0, {"tensor \"x\"", "twice"}),
      bad(R"({"x":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 4,
          {"tensor \"x\"", "dtype stands there twice"}),
      bad(R"({"x":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})", 4,
          {"tensor \"x\"", "shape stands there twice"}),
      bad(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"data_offsets":[0,4]}})", 4,
          {"tensor \"x\"", "data_offsets stands there twice"}),
      bad("{\"" + huge + "\":1}", 0, {"nnnnnn…\"", "is 1;"}),
      bad(R"({"a\u0000\nb":1})", 0, {"tensor \"a\\x00\\x0ab\": is 1"}),

      // Metadata.
      bad(R"({"__metadata__":{},"__metadata__":{}})", 0, {"__metadata__ stands there twice"}),
      bad(R"({"__metadata__":{"k":"1","k":"2"}})", 0, {"metadata \"k\"", "twice"}),
      bad(R"({"__metadata__":{"k":1}})", 0, {"metadata \"k\" is 1", "a string"}),
      bad(R"({"__metadata__":{"k":null}})", 0, {"metadata \"k\" is null", "a string"}),
      bad(R"({"__metadata__":{"k":{}}})", 0, {"metadata \"k\" is an object", "a string"}),
      bad(R"({"__metadata__":["k"]})", 0, {"__metadata__ is an array", "an object"}),
      bad(R"({"__metadata__":"k"})", 0, {"__metadata__ is \"k\"", "an object"}),

      // Members of an entry.
      bad(R"({"x":null})", 0, {"tensor \"x\": is null", "an object"}),
      bad(R"({"x":"F32"})", 0, {"tensor \"x\": is \"F32\"", "an object"}),
      bad(R"({"x":{}})", 0, {"tensor \"x\": has no dtype"}),
      bad(R"({"x":{"shape":[1],"data_offsets":[0,4]}})", 4, {"tensor \"x\": has no dtype"}),
      bad(R"({"x":{"dtype":"F32","data_offsets":[0,4]}})", 4, {"tensor \"x\": has no shape"}),
      bad(R"({"x":{"dtype":"F32","shape":[1]}})", 4, {"tensor \"x\": has no data_offsets"}),
      bad(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"strides":[1]}})", 4,
          {"tensor \"x\"", "member \"strides\""}),
      bad(R"({"x":{"dtype":"I4","shape":[2],"data_offsets":[1,0]}})", 1,
          {"tensor \"x\"", "begin ≤ end"}),
      bad(R"({"x":{"dtype":"I4","shape":[2],"data_offsets":[0,2]}})", 1,
          {"tensor \"x\"", "[0, 2]", "the 1 bytes of data"}),
      bad(R"({"x":{"dtype":"I4","shape":[2],"data_offsets":[0,1]}})", 2,
          {"2 bytes of data", "the 1"}),
      bad(R"({"x":{"dtype":"I\n4","shape":[5,0],"data_offsets":[0,1]}})", 1,
          {"tensor \"x\"", "1 bytes", "expected 0 for I\\x0a4"}),
      bad(R"({"x":{"dtype":"I4","shape":[4294967296,4294967296],"data_offsets":[0,1]}})", 1,
          {"tensor \"x\"", "expected less than"}),
      bad(R"({"x":{"dtype":32,"shape":[1],"data_offsets":[0,4]}})", 4,
          {"tensor \"x\"", "dtype is 32", "a string"}),
      bad(R"({"x":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", 4,
          {"tensor \"x\"", "shape is 1", "an array"}),
      bad(R"({"x":{"dtype":"F32","shape":{"0":1},"data_offsets":[0,4]}})", 4,
          {"tensor \"x\"", "shape is an object", "an array"}),
      bad(R"({"x":{"dtype":"F32","shape":"[1]","data_offsets":[0,4]}})", 4,
          {"tensor \"x\"", "shape is \"[1]\"", "an array"}),
      bad(R"({"x":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4,
          {"tensor \"x\"", "shape holds -1"}),
      bad(R"({"x":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4,
          {"tensor \"x\"", "shape holds 1.0"}),
      bad(R"({"x":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}})", 4,
          {"tensor \"x\"", "shape holds 1e0"}),
      bad(R"({"x":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}})", 4,
          {"tensor \"x\"", "shape holds \"1\""}),
      bad(R"({"x":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}})", 4,
          {"tensor \"x\"", "shape holds true"}),
      bad(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[4]}})", 4,
          {"tensor \"x\"", "data_offsets holds 1 numbers", "2"}),
      bad(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}})", 4,
          {"tensor \"x\"", "data_offsets holds 3 numbers", "2"}),
      bad(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":4}})", 4,
          {"tensor \"x\"", "data_offsets is 4", "an array"}),
      bad(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,null]}})", 4,
          {"tensor \"x\"", "data_offsets holds null"}),
      bad(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", 4,
          {"tensor \"x\"", "data_offsets holds -4"}),

      // Sizes.
      bad(R"({"x":{"dtype":"F32","shape":[2,3],"data_offsets":[0,20]}})", 20,
          {"tensor \"x\"", "[0, 20], 20 bytes", "expected 24", "F32", "[2, 3]"}),
      bad(R"({"x":{"dtype":"F64","shape":[2,3],"data_offsets":[0,24]}})", 24,
          {"tensor \"x\"", "24 bytes", "expected 48", "F64"}),
      bad(R"({"x":{"dtype":"F32","shape":[],"data_offsets":[0,0]}})", 0,
          {"tensor \"x\"", "0 bytes", "expected 4", "[]"}),
      bad(R"({"x":{"dtype":"F32","shape":[5,0],"data_offsets":[0,4]}})", 4,
          {"tensor \"x\"", "4 bytes", "expected 0", "[5, 0]"}),
      bad(R"({"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0,
          {"tensor \"x\"", "[4294967296, 4294967296]", "expected less than"}),
      bad(R"({"x":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", 0,
          {"tensor \"x\"", "[4611686018427387904] of F32", "expected less than"}),
      bad(R"({"x":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,0]}})", 0,
          {"tensor \"x\"", "shape holds 9223372036854775808"}),
      bad(R"({"x":{"dtype":"F32","shape":[18446744073709551617],"data_offsets":[0,4]}})", 4,
          {"tensor \"x\"", "shape holds 18446744073709551617"}),
      bad(R"({"x":{"dtype":"F32","shape":[0,4294967296,4294967296],"data_offsets":[0,0]}})", 0,
          {"tensor \"x\"", "expected less than"}),
      bad(R"({"x":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 1,
          {"tensor \"x\"", "[3] of F4", "whole bytes"}),

      // Offsets.
      bad(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4,
          {"tensor \"x\"", "[4, 0]", "begin ≤ end"}),
      bad(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 7,
          {"tensor \"x\"", "[0, 8]", "the 7 bytes of data"}),
      bad(R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[18446744073709551612,0]}})", 4,
          {"tensor \"x\"", "begin ≤ end"}),
      bad(R"({"x":{"dtype":"U8","shape":[3],"data_offsets":[18446744073709551612,)"
          R"(18446744073709551615]}})",
          4, {"tensor \"x\"", "the 4 bytes of data"}),
      bad(R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,18446744073709551616]}})", 4,
          {"tensor \"x\"", "data_offsets holds 18446744073709551616"}),
      bad(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8,
          {"tensor \"x\"", "begins at byte 4", "expected 0", "gap"}),
      bad(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
          R"("y":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}})",
          12, {"tensor \"y\"", "begins at byte 8", "expected 4", "gap"}),
      bad(R"({"y":{"dtype":"F32","shape":[2],"data_offsets":[4,12]},)"
          R"("x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
          12, {"tensor \"y\"", "begins at byte 4", "expected 8", "overlap"}),
      bad(R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
          R"("y":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
          4, {"tensor \"y\"", "begins at byte 0", "expected 4", "overlap"}),
      bad(R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
          R"("y":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}})",
          8, {"tensor \"y\"", "begins at byte 4", "expected 8", "overlap"}),
      bad("{" + x + "}", 25, {"25 bytes of data", "the 24"}),
      bad("{" + x + "}", 23, {"tensor \"x\"", "the 23 bytes of data"}),
      bad("{}", 1, {"1 bytes of data", "the 0"}),
  };
}

TEST(BadFiles, AreRefusedWithWordsThatNameTheFault) {
  const std::vector<BadFile> files = bad_files();
  EXPECT_GE(files.size(), 40U);
  const TemporaryFolder folder;
  for (const BadFile& file : files) {
    SCOPED_TRACE(file.bytes.substr(0, 120));
    const auto path = folder.write("bad.safetensors", file.bytes);
    const std::string name = "tokennorm: " + path.string() + ": ";
    std::vector<std::string_view> words = file.words;
    words.push_back(name);
    expect_error([&] { Safetensors::open(path); }, words);
  }
}

/// 100 MB and one byte more, most of it a hole.
TEST(BadFiles, HeaderBeyondTheFormatsLimitIsRefused) {
  const TemporaryFolder folder;
  const auto path = folder.write("bad.safetensors", length_bytes(100'000'001) + "{}");
  std::filesystem::resize_file(path, 100'000'100);
  expect_error([&] { Safetensors::open(path); }, {"length is 100000001", "at most 100000000"});
}

TEST(BadFiles, WhatIsNoFileIsRefused) {
  const TemporaryFolder folder;
  expect_error([&] { Safetensors::open(folder / "none.safetensors"); },
               {"none.safetensors", "cannot be opened", "No such file"});
  expect_error([&] { Safetensors::open(folder.path()); },
               {folder.path().string(), "is not a file"});
}

TEST(BadFiles, OfAnotherKindAreNamed) {
  const std::pair<std::string, std::string> files[] = {
      {"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 548105171\n",
       "is a Git LFS pointer, not the file; run git lfs pull"},
      {"<!DOCTYPE html>\n<html><head>", "is an HTML page, and not the file that was to be "},
      {"<html>", "is an HTML page"},
      {"\n\n <!DOCTYPE html>", "is an HTML page"},
      {"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", "is an XML page, and not the "},
      {"Entry not found", "is a server's answer that it has no such file"},
      {std::string("\x1f\x8b\x08\0\0\0\0\0", 8), "is a gzip archive"},
      {std::string("\x93NUMPY\1\0v\0", 10), "is a NumPy array"},
      {std::string("PK\3\4\0\0\x08\x08\0\0model/data.pkl", 24), "is a zip archive, as torch.save "},
      {"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.", "is a pickle, as torch.save wrote them"},
      {std::string("\x80\x04\0\0\0\0\0\0", 8) + std::string(2000, 'x'), "is a pickle"},
      {std::string("GGUF\3\0\0\0{\0\0\0\0\0\0\0", 16), "is a GGUF file"},
      {"\x89HDF\r\n\x1a\n", "is an HDF5 file"}};
  const TemporaryFolder folder;
  for (const auto& [bytes, words] : files) {
    SCOPED_TRACE(words);
    for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
      const auto path = folder.write(name, bytes);
      const std::string expected = path.string() + ": " + words;
      expect_error([&] { Safetensors::open(path); }, {expected});
    }
  }
  // The length of a true header may be a pickle's first bytes.
  const std::string header =
      "{" + std::string(x24) + "}" + std::string(0x280 - 2 - x24.size(), ' ');
  const std::string bytes = file_bytes(header, 24);
  ASSERT_TRUE(bytes.starts_with("\x80\x02"));
  EXPECT_TRUE(Safetensors::open(folder.write("model.safetensors", bytes)).contains("x"));
}

TEST(BadFiles, EveryPrefixOfAGoodFileIsRefused) {
  const TemporaryFolder folder;
  const std::string good = file_bytes("{" + std::string(x24) + "}", 24);
  for (std::size_t size = 0; size < good.size(); ++size) {
    SCOPED_TRACE(size);
    const auto path = folder.write("cut.safetensors", std::string_view(good).substr(0, size));
    expect_error([&] { Safetensors::open(path); }, {"cut.safetensors"});
  }
  EXPECT_TRUE(Safetensors::open(folder.write("cut.safetensors", good)).contains("x"));
}

struct BadIndex {
  std::string text;
  std::vector<std::string_view> words;
};

TEST(BadFiles, IndicesAreRefusedWithWordsThatNameTheFault) {
  const std::vector<BadIndex> indices = {
      {"", {"the index starts with", "'{'"}},
      {"[]", {"the index starts with", "'{'"}},
      {"{", {"the index is not JSON at byte"}},
      {"{}", {"no weight_map"}},
      {R"({"metadata":{"weight_map":{}}})", {"no weight_map"}},
      {R"({"weight_map":[]})", {"weight_map is an array", "an object"}},
      {R"({"weight_map":1})", {"weight_map is 1", "an object"}},
      {R"({"weight_map":"a"})", {"weight_map is \"a\"", "an object"}},
      {R"({"weight_map":{},"weight_map":{}})", {"weight_map stands there twice"}},
      {R"({"weight_map":{"x":"one.safetensors","x":"two.safetensors"}})",
       {"tensor \"x\"", "twice"}},
      {R"({"weight_map":{"x":1}})", {"tensor \"x\"", "shard is 1", "a string"}},
      {R"({"weight_map":{"x":{}}})", {"tensor \"x\"", "shard is an object", "a string"}},
      {R"({"weight_map":{"x":""}})", {"tensor \"x\"", "in this folder"}},
      {R"({"weight_map":{"x":".."}})", {"tensor \"x\"", "\"..\"", "in this folder"}},
      {R"({"weight_map":{"x":"../one.safetensors"}})", {"tensor \"x\"", "in this folder"}},
      {R"({"weight_map":{"x":"/one.safetensors"}})", {"tensor \"x\"", "in this folder"}},
      {R"({"weight_map":{"x":"a\\one.safetensors"}})", {"tensor \"x\"", "in this folder"}},
      {R"({"weight_map":{"x":"C:one.safetensors"}})", {"tensor \"x\"", "in this folder"}},
      {R"({"weight_map":{"x":"one.safetensors\u0000"}})", {"tensor \"x\"", "in this folder"}},
      {R"({"weight_map":{"x":"none.safetensors"}})", {"none.safetensors", "cannot be opened"}},
      {R"({"weight_map":{"y":"one.safetensors"}})", {"tensor \"y\"", "is not in one.safetensors"}},
      {R"({"weight_map":{"x":"broken.safetensors"}})", {"broken.safetensors", "has 1 bytes"}},
      {R"({"weight_map":{"x":"model.safetensors.index.json"}})",
       {"model.safetensors.index.json", "length is"}},
      {deep("{\"metadata\":", '[', 1'000'000), {"the index is not JSON at byte"}},
  };
  const TemporaryFolder folder;
  folder.write("one.safetensors", file_bytes("{" + std::string(x24) + "}", 24));
  folder.write("broken.safetensors", "1");
  for (const BadIndex& index : indices) {
    SCOPED_TRACE(index.text.substr(0, 120));
    const auto path = folder.write("model.safetensors.index.json", index.text);
    expect_error([&] { Safetensors::open(path); }, index.words);
  }
}

}  // namespace
}  // namespace tokennorm::test
