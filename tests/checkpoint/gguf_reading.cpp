// SPDX-License-Identifier: MIT
// GGUF: a file made by hand, byte by byte, and others from the tests' own writer.
#include "../support/message_of.hpp"
#include "files.hpp"
#include "gguf_file.hpp"
#include <tokennorm/checkpoint/gguf.hpp>
#include <tokennorm/checkpoint/names.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

using namespace std::string_literals;

static_assert(TensorSource<Gguf>);

/// 24 + 33 + 46 bytes and 1 of padding: the data begins at byte 104, a multiple of 8.
std::string hand_made_file() {
  return "GGUF\x03\0\0\0"
         "\x01\0\0\0\0\0\0\0"  // tensors
         "\x01\0\0\0\0\0\0\0"  // metadata
         "\x11\0\0\0\0\0\0\0"
         "general.alignment"
         "\x04\0\0\0"  // u32
         "\x08\0\0\0"
         "\x06\0\0\0\0\0\0\0"
         "weight"
         "\x02\0\0\0"          // dimensions
         "\x02\0\0\0\0\0\0\0"  // the fastest one
         "\x03\0\0\0\0\0\0\0"
         "\x00\0\0\0"  // F32
         "\x00\0\0\0\0\0\0\0"
         "\0"
         "\0\0\x80\x3f"      // 1
         "\0\0\x80\xbf"      // -1
         "\0\0\0\x3f"        // 0.5
         "\x01\0\0\0"        // the smallest subnormal
         "\xff\xff\x7f\x7f"  // the largest float
         "\0\0\x40\x40"s;    // 3
}

Gguf open(const GgufFile& file) { return Gguf::open(lasting_file(file.bytes())); }

TEST(Gguf, OpensAHandMadeFile) {
  const TemporaryFolder folder;
  const auto path = folder.write("model.gguf", hand_made_file());
  const Gguf file = Gguf::open(path);
  EXPECT_EQ(file.names(), std::vector<std::string>{"weight"});
  EXPECT_TRUE(file.contains("weight"));
  EXPECT_FALSE(file.contains("general.alignment"));
  EXPECT_EQ(file.dtype("weight"), "F32");
  EXPECT_EQ(file.shape("weight"), (std::vector<Index>{3, 2}));
  EXPECT_EQ(file.file_name("weight"), path.string());
  EXPECT_EQ(file.name(), path.string());
  EXPECT_EQ(*file.metadata_if<std::uint64_t>("general.alignment"), 8U);
  TokenMatrix<float> expected(3, 2);
  expected << 1, -1, 0.5F, 0x1p-149F, std::numeric_limits<float>::max(), 3;
  EXPECT_EQ(file.matrix<float>("weight"), expected);
  EXPECT_EQ(file.matrix<double>("weight"), expected.cast<double>());
  EXPECT_EQ(message_of<std::runtime_error>([&] { file.matrix<float>("bias"); }),
            "tokennorm: " + path.string() + ": tensor \"bias\": is not among the 1 that there are");
  EXPECT_EQ(message_of<std::runtime_error>([&] { file.matrix<Eigen::half>("weight"); }),
            "tokennorm: " + path.string() +
                ": tensor \"weight\": value 4 is 3.40282e+38; the largest half is 65504");
}

TEST(Gguf, ReadsEveryScalarAndListsWhatItDoesNotRead) {
  GgufFile made;
  made.version = 2;
  made.add("f64", {2}, 28, raw(0.1) + raw(-2.0));
  made.add("f16", {1, 3}, 1, "\0\x3c\0\xc0\xff\x7b"s);
  made.add("bf16", {2}, 30, "\x80\x3f\xab\x3e"s);
  made.add("scalar", {}, 0, raw(7.0F));
  made.add("empty", {0, 5}, 0, "");
  made.add("quantized", {2, 256}, 12, std::string(288, 'q'));
  made.add("whole", {3}, 24, "abc");
  made.add("new", {3}, 99, "?");
  const Gguf file = open(made);
  EXPECT_EQ(file.matrix<double>("f64"), (TokenMatrix<double>(1, 2) << 0.1, -2).finished());
  EXPECT_EQ(file.matrix<float>("f64")(0, 0), 0.1F);
  EXPECT_EQ(file.matrix<float>("f16"), (TokenMatrix<float>(1, 3) << 1, -2, 65504).finished());
  EXPECT_EQ(file.matrix<float>("bf16"), (TokenMatrix<float>(1, 2) << 1, 0.333984375).finished());
  EXPECT_EQ(file.matrix<float>("scalar"), TokenMatrix<float>::Constant(1, 1, 7));
  EXPECT_EQ(file.matrix<float>("empty").rows(), 0);
  EXPECT_EQ(file.matrix<float>("empty").cols(), 5);
  EXPECT_EQ(file.shape("quantized"), (std::vector<Index>{2, 256}));
  for (const auto& [name, dtype] :
       {std::pair("quantized", "Q4_K"), std::pair("whole", "I8"), std::pair("new", "type 99")}) {
    EXPECT_EQ(file.dtype(name), dtype);
    expect_error([&, what = name] { file.matrix<float>(what); },
                 {"tensor \"" + std::string(name) + "\": dtype is " + dtype + "; only F64, F32, "});
  }
}

/// As ggml has them: elements of a block, and its bytes.
TEST(Gguf, KnowsTheSizesOfQuantizedTypes) {
  struct Block {
    std::uint32_t type;
    const char* name;
    std::uint64_t elements, bytes;
  };
  for (const Block& block : {Block{2, "Q4_0", 32, 2 + 16},
                             Block{3, "Q4_1", 32, 2 + 2 + 16},
                             Block{6, "Q5_0", 32, 2 + 4 + 16},
                             Block{7, "Q5_1", 32, 2 + 2 + 4 + 16},
                             Block{8, "Q8_0", 32, 2 + 32},
                             Block{9, "Q8_1", 32, 4 + 4 + 32},
                             Block{10, "Q2_K", 256, 2 + 2 + 16 + 64},
                             Block{11, "Q3_K", 256, 2 + 64 + 32 + 12},
                             Block{12, "Q4_K", 256, 2 + 2 + 128 + 12},
                             Block{13, "Q5_K", 256, 2 + 2 + 128 + 32 + 12},
                             Block{14, "Q6_K", 256, 2 + 128 + 64 + 16},
                             Block{15, "Q8_K", 256, 4 + 256 + 32},
                             Block{16, "IQ2_XXS", 256, 2 + 64},
                             Block{17, "IQ2_XS", 256, 2 + 64 + 8},
                             Block{18, "IQ3_XXS", 256, 2 + 64 + 32},
                             Block{19, "IQ1_S", 256, 2 + 32 + 16},
                             Block{20, "IQ4_NL", 32, 2 + 16},
                             Block{21, "IQ3_S", 256, 2 + 64 + 32 + 8 + 4},
                             Block{22, "IQ2_S", 256, 2 + 64 + 16},
                             Block{23, "IQ4_XS", 256, 2 + 2 + 128 + 4},
                             Block{29, "IQ1_M", 256, 32 + 16 + 8},
                             Block{34, "TQ1_0", 256, 2 + 4 * 13},
                             Block{35, "TQ2_0", 256, 2 + 64},
                             Block{39, "MXFP4", 32, 1 + 16},
                             Block{40, "NVFP4", 64, 4 + 32},
                             Block{41, "Q1_0", 128, 2 + 16}}) {
    SCOPED_TRACE(block.name);
    const std::string data(3 * block.bytes, 'q');
    const Gguf file = open(GgufFile().add("x", {3, block.elements}, block.type, data));
    EXPECT_EQ(file.dtype("x"), block.name);
    const TemporaryFolder folder;
    std::string bytes = GgufFile().add("x", {3, block.elements}, block.type, data).bytes();
    bytes.pop_back();
    const auto path = folder.write("cut.gguf", bytes);
    expect_error([&] { Gguf::open(path); }, {"tensor \"x\"", "bytes of data"});
    const std::string half = GgufFile().add("x", {block.elements / 2}, block.type, data).bytes();
    const auto broken = folder.write("half.gguf", half);
    expect_error([&] { Gguf::open(broken); }, {"tensor \"x\"", "rows of a multiple of"});
  }
}

TEST(Gguf, HonoursTheAlignment) {
  for (const std::uint32_t alignment : {8U, 24U, 32U, 64U, 4096U}) {
    SCOPED_TRACE(alignment);
    GgufFile made;
    made.alignment = alignment;
    made.number("general.alignment", alignment);
    made.add("a", {3}, 0, raw(1.0F) + raw(2.0F) + raw(3.0F));
    made.add("b", {1}, 0, raw(4.0F));
    const Gguf file = open(made);
    EXPECT_EQ(file.matrix<float>("a")(0, 2), 3);
    EXPECT_EQ(file.matrix<float>("b")(0, 0), 4);
  }
}

TEST(Gguf, KeepsMetadataAndPassesOverArrays) {
  GgufFile made;
  made.number("u8", std::uint8_t{255}).number("i8", std::int8_t{-1});
  made.number("u16", std::uint16_t{65535}).number("i16", std::int16_t{-2});
  made.number("u32", std::uint32_t{4294967295}).number("i32", std::int32_t{-3});
  made.number("u64", ~std::uint64_t{0}).number("i64", std::int64_t{-4});
  made.number("f32", 1e-5F).number("f64", 0.1).number("yes", true).number("no", false);
  made.text("text", "a\0b"s).text("", "no key");
  made.value("words", 9,
             raw(std::uint32_t{8}) + raw(std::uint64_t{2}) + gguf_text("one") + gguf_text(""));
  made.value("scores", 9, raw(std::uint32_t{6}) + raw(std::uint64_t{3}) + std::string(12, 's'));
  made.value("none", 9, raw(std::uint32_t{12}) + raw(std::uint64_t{0}));
  const std::string two_bytes = raw(std::uint32_t{0}) + raw(std::uint64_t{2}) + "ab";
  const std::string one_string = raw(std::uint32_t{8}) + raw(std::uint64_t{1}) + gguf_text("x");
  const std::string in_it = raw(std::uint32_t{9}) + raw(std::uint64_t{2}) + two_bytes + one_string;
  made.value("nested", 9,
             raw(std::uint32_t{9}) + raw(std::uint64_t{3}) + two_bytes + in_it + one_string);
  made.text("last", "here");
  made.add("x", {1}, 0, raw(1.0F));
  const Gguf file = open(made);
  const auto expect = [&](const char* key, const GgufValue& value) {
    ASSERT_TRUE(file.metadata().contains(key)) << key;
    EXPECT_EQ(file.metadata().at(key), value) << key;
  };
  expect("u8", std::uint64_t{255});
  expect("i8", std::int64_t{-1});
  expect("u16", std::uint64_t{65535});
  expect("i16", std::int64_t{-2});
  expect("u32", std::uint64_t{4294967295});
  expect("i32", std::int64_t{-3});
  expect("u64", ~std::uint64_t{0});
  expect("i64", std::int64_t{-4});
  expect("f32", static_cast<double>(1e-5F));
  expect("f64", 0.1);
  expect("yes", true);
  expect("no", false);
  expect("text", "a\0b"s);
  expect("", "no key"s);
  expect("words", GgufArray{2});
  expect("scores", GgufArray{3});
  expect("none", GgufArray{0});
  expect("nested", GgufArray{3});
  expect("last", "here"s);
  EXPECT_EQ(file.metadata().size(), 19U);
  EXPECT_EQ(file.metadata_if<bool>("text"), nullptr);
  EXPECT_EQ(file.metadata_if<std::string>("absent"), nullptr);
  EXPECT_EQ(file.matrix<float>("x")(0, 0), 1);
}

/// A tokenizer's words take more than one piece of the header, and so do strings.
TEST(Gguf, ReadsHeadersOfSeveralPieces) {
  GgufFile made;
  std::string words;
  constexpr std::uint64_t count = 30'000;
  for (std::uint64_t i = 0; i < count; ++i) words += gguf_text("word " + std::to_string(i));
  made.value("words", 9, raw(std::uint32_t{8}) + raw(count) + words);
  made.text("template", std::string(200'000, 't'));
  for (int i = 0; i < 3000; ++i) made.add("x." + std::to_string(i), {1}, 0, raw(float(i)));
  const Gguf file = open(made);
  EXPECT_EQ(file.metadata().at("words"), GgufValue(GgufArray{count}));
  EXPECT_EQ(file.metadata_if<std::string>("template")->size(), 200'000U);
  EXPECT_EQ(file.names().size(), 3000U);
  EXPECT_EQ(file.matrix<float>("x.2999")(0, 0), 2999);
}

/// Arrays nested as deep as the header is long: no stack frame for each.
TEST(Gguf, ReadsArraysThatAreNestedDeeply) {
  std::string nested;
  for (int level = 0; level < 1'000'000; ++level) {
    nested += raw(std::uint32_t{9}) + raw(std::uint64_t{1});
  }
  nested += raw(std::uint32_t{0}) + raw(std::uint64_t{0});
  const Gguf file = open(GgufFile().value("deep", 9, nested).add("x", {1}, 0, raw(1.0F)));
  EXPECT_EQ(file.metadata().at("deep"), GgufValue(GgufArray{1}));
  EXPECT_EQ(file.matrix<float>("x")(0, 0), 1);
}

TEST(Gguf, IsReadWhereTheSystemHasNoDescriptorsToo) {
  GgufFile made;
  made.text("text", std::string(100'000, 't')).number("number", 7.0);
  made.add("x", {2}, 0, raw(1.0F) + raw(2.0F));
  const detail::StreamedFile file(lasting_file(made.bytes()));
  const detail::GgufHeader header = detail::read_gguf_header("streamed", file);
  EXPECT_EQ(std::get<std::string>(header.metadata.at("text")).size(), 100'000U);
  EXPECT_EQ(header.metadata.at("number"), GgufValue(7.0));
  const auto matrix = detail::read_tensor<float>("streamed", file, "x", header.tensors.at("x"));
  EXPECT_EQ(matrix, (TokenMatrix<float>(1, 2) << 1, 2).finished());
}

TEST(Gguf, CopiesShareTheFile) {
  Gguf file = open(GgufFile().add("x", {1}, 0, raw(1.0F)));
  const Gguf copy = file;
  const Gguf moved = std::move(file);
  EXPECT_EQ(copy.matrix<float>("x")(0, 0), 1);
  EXPECT_EQ(moved.matrix<float>("x")(0, 0), 1);
}

/// The data begin where the header ends, or at the next multiple of the alignment.
TEST(Gguf, FindsTheDataBehindAHeaderOfAnyLength) {
  for (std::size_t length = 0; length < 40; ++length) {
    const auto file =
        open(GgufFile().text("k", std::string(length, 'k')).add("x", {1}, 0, raw(2.0F)));
    EXPECT_EQ(file.matrix<float>("x")(0, 0), 2) << length;
  }
}

// ---- models that are split ----------------------------------------------------------------------

GgufFile part(std::uint16_t number, std::uint16_t count, std::int32_t tensors) {
  GgufFile file;
  file.number("split.no", number).number("split.count", count);
  file.number("split.tensors.count", tensors);
  return file;
}

TEST(Gguf, OpensTheFilesOfASplitModelAsOne) {
  const TemporaryFolder folder;
  const auto write = [&](const char* number, const GgufFile& file) {
    return folder.write("model-0000" + std::string(number) + "-of-00003.gguf", file.bytes());
  };
  const auto first = write("1", part(0, 3, 2).text("general.architecture", "llama"));
  write("2", part(1, 3, 2).add("b", {1}, 0, raw(2.0F)));
  const auto last = write("3", part(2, 3, 2).add("a", {1}, 0, raw(1.0F)));
  const Gguf file = Gguf::open(first);
  EXPECT_EQ(file.names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(file.matrix<float>("a")(0, 0), 1);
  EXPECT_EQ(file.matrix<float>("b")(0, 0), 2);
  EXPECT_EQ(file.file_name("a"), last.string());
  EXPECT_EQ(*file.metadata_if<std::string>("general.architecture"), "llama");

  expect_error([&] { Gguf::open(last); },
               {last.string(), "is one of 3 files", "whose name ends in -00001-of-00003.gguf"});
  write("2", part(1, 3, 2).add("a", {1}, 0, raw(2.0F)));
  expect_error([&] { Gguf::open(first); }, {last.string(), "tensor \"a\"", "another file"});
  write("2", part(1, 3, 2));
  expect_error([&] { Gguf::open(first); }, {"3 files have 1 tensors; expected 2"});
  write("2", part(0, 3, 2));
  expect_error([&] { Gguf::open(first); }, {"00002-of", "is file 1 of 3; expected 2 of 3"});
  write("2", part(1, 2, 2));
  expect_error([&] { Gguf::open(first); }, {"00002-of", "is file 2 of 2; expected 2 of 3"});
  write("2", GgufFile());
  expect_error([&] { Gguf::open(first); }, {"00002-of", "is file 0 of 1; expected 2 of 3"});
  write("1", part(1, 3, 2));
  expect_error([&] { Gguf::open(first); }, {"00001-of", "is file 2 of 3; expected 1 of 3"});
  write("1", part(0, 3, 2));
  std::filesystem::remove(last);
  write("2", part(1, 3, 2).add("b", {1}, 0, raw(2.0F)));
  expect_error([&] { Gguf::open(first); }, {last.string(), "cannot be opened"});
  EXPECT_EQ(open(part(0, 1, 0)).names().size(), 0U);
}

/// Data beyond 4 GB, most of it a hole.
TEST(Gguf, ReadsFarIntoALargeFile) {
  constexpr std::uint64_t far = 5'000'000'000 / 32 * 32;
  GgufFile made;
  made.add_at("near", {1}, 0, 0, raw(1.0F)).add_at("far", {1}, 0, far);
  const TemporaryFolder folder;
  const auto path = folder.write("large.gguf", made.bytes());
  const std::uint64_t data = std::filesystem::file_size(path) - 4;
  std::error_code error;
  std::filesystem::resize_file(path, data + far, error);
  if (error) GTEST_SKIP() << "no such file here: " << error.message();
  std::ofstream(path, std::ios::binary | std::ios::app) << raw(2.0F);
  const Gguf file = Gguf::open(path);
  EXPECT_EQ(file.matrix<float>("near")(0, 0), 1);
  EXPECT_EQ(file.matrix<float>("far")(0, 0), 2);
}

}  // namespace
}  // namespace tokennorm::test
