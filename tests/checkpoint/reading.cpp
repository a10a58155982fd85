// SPDX-License-Identifier: MIT
// Safetensors: files made by hand, byte by byte, and not by the writer.
#include "../support/edge_shapes.hpp"
#include "../support/message_of.hpp"
#include "../support/scalars.hpp"
#include "files.hpp"
#include <tokennorm/checkpoint/names.hpp>
#include <tokennorm/checkpoint/safetensors.hpp>

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm::test {
namespace {

using namespace std::string_literals;

/// The header does not end at a multiple of 8, and neither do the tensors begin at one.
std::string hand_made_file() {
  return "\xf1\0\0\0\0\0\0\0"s
         R"({"__metadata__":{"format":"pt","":"\u00e9\n"},)"
         R"("b.bias":{"shape":[3],"data_offsets":[1,7],"dtype":"BF16"},)"
         R"("a.weight":{"dtype":"F32","shape":[2,1,2],"data_offsets":[7,23]},)"
         R"("flag":{"dtype":"BOOL","shape":[],"data_offsets":[0,1]}})"
         "               "
         "\x01"                // flag
         "\x80\x3f"            // 1
         "\x00\xc0"            // -2
         "\xab\x3e"            // 0.333984375
         "\0\0\x80\x3f"        // 1
         "\0\0\x80\xbf"        // -1
         "\x01\0\0\0"          // the smallest subnormal
         "\xff\xff\x7f\x7f"s;  // the largest float
}

TEST(Safetensors, OpensAHandMadeFile) {
  const TemporaryFolder folder;
  const std::string bytes = hand_made_file();
  ASSERT_EQ(bytes.size(), 8U + 0xf1U + 23U);
  const auto file = Safetensors::open(folder.write("model.safetensors", bytes));

  EXPECT_EQ(file.names(), (std::vector<std::string>{"a.weight", "b.bias", "flag"}));
  EXPECT_EQ(file.metadata(),
            (std::map<std::string, std::string>{{"format", "pt"}, {"", "\xc3\xa9\n"}}));
  EXPECT_TRUE(file.contains("flag"));
  EXPECT_FALSE(file.contains("fla"));
  EXPECT_FALSE(file.contains("__metadata__"));
  EXPECT_EQ(file.dtype("a.weight"), "F32");
  EXPECT_EQ(file.dtype("flag"), "BOOL");
  EXPECT_EQ(file.shape("a.weight"), (std::vector<Index>{2, 1, 2}));
  EXPECT_EQ(file.shape("flag"), std::vector<Index>{});

  TokenMatrix<float> weight(2, 2);
  weight << 1, -1, 0x1p-149f, std::numeric_limits<float>::max();
  EXPECT_EQ(file.matrix<float>("a.weight"), weight);
  EXPECT_EQ(file.matrix<double>("a.weight"), weight.cast<double>());
  TokenMatrix<double> bias(1, 3);
  bias << 1, -2, 0.333984375;
  EXPECT_EQ(file.matrix<double>("b.bias"), bias);
}

TEST(Safetensors, IsStillOpenWhenMovedFrom) {
  const TemporaryFolder folder;
  auto file = Safetensors::open(folder.write("model.safetensors", hand_made_file()));
  const auto other = std::move(file);
  EXPECT_EQ(file.names(), other.names());
  EXPECT_TRUE(file.contains("flag"));
}

TEST(Safetensors, OpensAFileWithoutTensors) {
  const TemporaryFolder folder;
  EXPECT_TRUE(Safetensors::open(folder.write("a", file_bytes("{}"))).names().empty());
  const auto file =
      Safetensors::open(folder.write("b", file_bytes(R"({"__metadata__":{"a":"b"}}          )")));
  EXPECT_TRUE(file.names().empty());
  EXPECT_EQ(file.metadata().at("a"), "b");
}

TEST(Safetensors, LeadingDimensionsAreRows) {
  constexpr Index many = Index{1} << (8 * sizeof(Index) - 2);
  const std::pair<std::string, Shape> shapes[] = {
      {"[]", {1, 1}},        {"[0]", {1, 0}},       {"[4]", {1, 4}},
      {"[1,4]", {1, 4}},     {"[4,1]", {4, 1}},     {"[2,3]", {2, 3}},
      {"[2,3,5]", {6, 5}},   {"[2,1,3,5]", {6, 5}}, {"[0,3]", {0, 3}},
      {"[3,0]", {3, 0}},     {"[2,0,3]", {0, 3}},   {"[2,3,0]", {6, 0}},
      {"[1,1,1,1]", {1, 1}}, {"[0,0,0]", {0, 0}},   {"[" + std::to_string(many) + ",0]", {many, 0}},
  };
  const TemporaryFolder folder;
  for (const auto& [text, shape] : shapes) {
    SCOPED_TRACE(text);
    const Index count = shape.channels == 0 ? 0 : shape.tokens * shape.channels;
    const std::string size = std::to_string(2 * count);
    const auto file =
        Safetensors::open(folder.write("a", file_bytes(R"({"x":{"dtype":"F16","shape":)" + text +
                                                           R"(,"data_offsets":[0,)" + size + "]}}",
                                                       static_cast<std::size_t>(2 * count))));
    const auto x = file.matrix<Eigen::half>("x");
    EXPECT_EQ(x.rows(), shape.tokens);
    EXPECT_EQ(x.cols(), shape.channels);
    if (x.size() > 0) {
      EXPECT_EQ(std::bit_cast<std::uint16_t>(x(x.rows() - 1, x.cols() - 1)), 0x0101);
    }
  }
}

TEST(Safetensors, EmptyTensorsStandAnywhereBetweenOthers) {
  const TemporaryFolder folder;
  const auto file = Safetensors::open(
      folder.write("a", file_bytes(R"({"e":{"dtype":"F32","shape":[0],"data_offsets":[4,4]},)"
                                   R"("d":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},)"
                                   R"("c":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                                   R"("b":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},)"
                                   R"("a":{"dtype":"F32","shape":[7,0],"data_offsets":[8,8]}})",
                                   8)));
  EXPECT_EQ(file.names().size(), 5U);
  EXPECT_EQ(file.matrix<float>("a").rows(), 7);
}

TEST(Safetensors, KnowsEveryDtypeOfTheFormat) {
  const std::pair<std::string, int> bits[] = {
      {"F64", 64},    {"F32", 32},        {"F16", 16}, {"BF16", 16},   {"I64", 64},
      {"I32", 32},    {"I16", 16},        {"I8", 8},   {"U64", 64},    {"U32", 32},
      {"U16", 16},    {"U8", 8},          {"BOOL", 8}, {"F8_E4M3", 8}, {"F8_E5M2", 8},
      {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6},
      {"C64", 64},    {"F8_E5M2FNUZ", 8}};
  const TemporaryFolder folder;
  for (const auto& [dtype, count] : bits) {
    SCOPED_TRACE(dtype);
    const auto file = Safetensors::open(folder.write(
        "a", file_bytes(R"({"x":{"dtype":")" + dtype + R"(","shape":[4],"data_offsets":[0,)" +
                            std::to_string(count / 2) + "]}}",
                        static_cast<std::size_t>(count / 2))));
    EXPECT_EQ(file.dtype("x"), dtype);
    if (dtype == "F64" || dtype == "F32" || dtype == "F16" || dtype == "BF16") continue;
    expect_error([&] { file.matrix<float>("x"); }, {"tensor \"x\"", "dtype is " + dtype, "F32"});
  }
}

TEST(Safetensors, ReadsTheNeighboursOfADtypeThatItDoesNotKnow) {
  const TemporaryFolder folder;
  for (const std::string dtype : {"I4", "F8_E4M3FN", "C128", "f32", ""}) {
    const std::string header = R"({"x":{"dtype":")" + dtype +
                               R"(","shape":[2,3],"data_offsets":[4,7]},)"
                               R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                               R"("b":{"dtype":"BF16","shape":[1],"data_offsets":[7,9]}})";
    const auto file = Safetensors::open(
        folder.write("a", length_bytes(header.size()) + header + "\0\0\x80\x3f???\0\x40"s));
    EXPECT_EQ(file.matrix<float>("a")(0), 1);
    EXPECT_EQ(file.matrix<float>("b")(0), 2);
    EXPECT_EQ(file.dtype("x"), dtype);
    EXPECT_EQ(file.shape("x"), (std::vector<Index>{2, 3}));
    const std::string words = "tensor \"x\": dtype is " + dtype + "; only F64, F32, F16 and BF16";
    expect_error([&] { file.matrix<float>("x"); }, {words});
  }
}

TEST(Safetensors, TensorThatIsNotThereIsAnError) {
  const TemporaryFolder folder;
  const auto file = Safetensors::open(folder.write("model.safetensors", hand_made_file()));
  for (const auto& call : std::vector<std::function<void()>>{
           [&] { file.shape("c"); }, [&] { file.dtype("c"); }, [&] { file.matrix<float>("c"); }})
    expect_error(call, {"model.safetensors: tensor \"c\"", "not among the 3"});
}

TEST(Safetensors, CopiesShareTheFileAndOutliveItsName) {
  if (std::is_same_v<detail::RandomAccessFile, detail::StreamedFile>) {
    GTEST_SKIP() << "files are not kept open here";
  }
  const TemporaryFolder folder;
  auto file = Safetensors::open(folder.write("model.safetensors", hand_made_file()));
  const Safetensors copy = file;
  const Safetensors moved = std::move(file);
  std::filesystem::remove(folder / "model.safetensors");
  EXPECT_EQ(copy.matrix<float>("b.bias")(1), -2);
  EXPECT_EQ(moved.matrix<float>("b.bias")(1), -2);
}

TEST(Safetensors, AFileThatIsCutWhileItIsOpenIsAnError) {
  const TemporaryFolder folder;
  const std::string bytes = hand_made_file();
  const auto path = folder.write("model.safetensors", bytes);
  const auto file = Safetensors::open(path);
  const std::string who = path.string() + ": ";
  const auto expect_cut = [&](std::uint64_t size, const std::string& fault) {
    std::filesystem::resize_file(path, size);
    expect_error([&] { file.matrix<float>("a.weight"); }, {who, fault});
    expect_error([&] { file.matrix<double>("a.weight"); }, {who, fault});
  };
  const bool is_streamed = std::is_same_v<detail::RandomAccessFile, detail::StreamedFile>;
  const std::string had = "; it had " + std::to_string(bytes.size()) + " bytes when it was opened";
  for (const std::uint64_t size : {bytes.size() - 1, std::size_t{0}}) {
    expect_cut(size, is_streamed ? "reading it failed" : had);
  }
  folder.write("model.safetensors", bytes);
  EXPECT_EQ(file.matrix<float>("a.weight")(1), -1);
}

// ---- values

/// One value of each 16-bit pattern, or hard ones, in a file of one tensor.
template <class Stored>
Safetensors file_of(const TemporaryFolder& folder, const char* dtype,
                    const std::vector<Stored>& values) {
  std::string bytes(values.size() * sizeof(Stored), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  const std::string count = std::to_string(values.size());
  const std::string header = R"({"x":{"dtype":")" + std::string(dtype) + R"(","shape":[)" + count +
                             R"(],"data_offsets":[0,)" + std::to_string(bytes.size()) + "]}}";
  return Safetensors::open(folder.write("values", length_bytes(header.size()) + header + bytes));
}

template <class Stored>
std::string error_of(const TemporaryFolder& folder, const char* dtype, auto scalar, Stored value) {
  const Safetensors file =
      file_of(folder, dtype, std::vector<Stored>{static_cast<Stored>(1), value});
  return message_of<std::runtime_error>([&] { file.matrix<decltype(scalar)>("x"); });
}

/// Each value as the format nearest to it, rounded once: the oracle rounds in long double. What
/// goes to infinity there is refused, the smallest such value for one.
template <class Scalar, class Stored>
void expect_rounded(const TemporaryFolder& folder, const char* dtype,
                    const std::vector<Stored>& all_values) {
  SCOPED_TRACE(scalar_name<Stored>() + " as " + scalar_name<Scalar>());
  std::vector<Stored> values;
  Stored beyond = std::numeric_limits<Stored>::infinity();
  for (const Stored value : all_values) {
    const long double exact = to_exact(value);
    if (!std::isfinite(exact) || std::isfinite(rounded_to<Scalar>(exact))) {
      values.push_back(value);
    } else if (exact > 0 && exact < to_exact(beyond)) {
      beyond = value;
    }
  }
  if (std::isfinite(to_exact(beyond))) {
    for (const Stored value : {beyond, -beyond}) {
      const std::string message = error_of(folder, dtype, Scalar{}, value);
      EXPECT_NE(message.find("values: tensor \"x\": value 1 is "), message.npos) << message;
    }
  }
  const auto read = file_of(folder, dtype, values).template matrix<Scalar>("x");
  ASSERT_EQ(read.size(), static_cast<Index>(values.size()));
  int wrong = 0;
  for (std::size_t i = 0; i < values.size() && wrong < 5; ++i) {
    const long double value = to_exact(values[i]);
    const long double expected = rounded_to<Scalar>(value);
    const long double found = to_exact(read(static_cast<Index>(i)));
    const bool same = std::isnan(value)
                          ? std::isnan(found)
                          : found == expected && std::signbit(found) == std::signbit(value);
    if (!same) {
      ++wrong;
      ADD_FAILURE() << static_cast<double>(value) << " became " << static_cast<double>(found)
                    << "; expected " << static_cast<double>(expected);
    }
  }
}

template <class Stored>
void expect_rounded_to_all(const char* dtype, const std::vector<Stored>& values) {
  const TemporaryFolder folder;
  expect_rounded<double>(folder, dtype, values);
  expect_rounded<float>(folder, dtype, values);
  expect_rounded<Eigen::half>(folder, dtype, values);
  expect_rounded<Eigen::bfloat16>(folder, dtype, values);
}

template <class Stored>
std::vector<Stored> all_of_16_bits() {
  std::vector<Stored> values;
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    const auto pattern = static_cast<std::uint16_t>(bits);
    Stored value;
    std::memcpy(static_cast<void*>(&value), &pattern, sizeof pattern);
    values.push_back(value);
  }
  return values;
}

/// Around every value of the 16-bit type, and half-way to the next: itself, one unit of Wide less
/// and more, and, in double, less by so little that float does not see it.
template <class Wide, class Narrow>
void append_around(std::vector<Wide>& values) {
  const std::vector<Narrow> all = all_of_16_bits<Narrow>();
  for (std::size_t i = 0; i + 1 < all.size(); ++i) {
    const Wide here = static_cast<Wide>(static_cast<float>(all[i]));
    const Wide next = static_cast<Wide>(static_cast<float>(all[i + 1]));
    if (!std::isfinite(here) || !std::isfinite(next)) continue;
    const Wide middle = (here + next) / 2;
    for (const Wide value : {here, middle})
      for (const Wide toward :
           {-std::numeric_limits<Wide>::infinity(), Wide{0}, std::numeric_limits<Wide>::infinity()})
        values.push_back(toward == 0 ? value : std::nextafter(value, toward));
  }
}

template <class Wide>
std::vector<Wide> hard_values() {
  using Limits = std::numeric_limits<Wide>;
  std::vector<Wide> values = {0,
                              -Wide{0},
                              1,
                              Limits::infinity(),
                              -Limits::infinity(),
                              Limits::quiet_NaN(),
                              Limits::max(),
                              -Limits::max(),
                              Limits::min(),
                              Limits::denorm_min(),
                              -Limits::denorm_min(),
                              65504,
                              65519,
                              65520,
                              Wide(0x1p-24),
                              Wide(0x1p-25),
                              std::nextafter(Wide(0x1p-25), Wide{1}),
                              Wide(0x1.ffp127),
                              std::nextafter(Wide(0x1.ffp127), Wide{0})};
  append_around<Wide, Eigen::half>(values);
  append_around<Wide, Eigen::bfloat16>(values);
  return values;
}

TEST(SafetensorsValues, OfHalfAreRoundedOnce) {
  expect_rounded_to_all("F16", all_of_16_bits<Eigen::half>());
}
TEST(SafetensorsValues, OfBfloat16AreRoundedOnce) {
  expect_rounded_to_all("BF16", all_of_16_bits<Eigen::bfloat16>());
}
TEST(SafetensorsValues, OfFloatAreRoundedOnce) {
  expect_rounded_to_all("F32", hard_values<float>());
}
TEST(SafetensorsValues, OfDoubleAreRoundedOnce) {
  std::vector<double> values = hard_values<double>();
  values.insert(values.end(), {0x1.fffffefffffffp127, 0x1.ffffffp127, 0x1.fffffffp127, 0x1p-150,
                               0x1.0000000000001p-150, 1 + 0x1p-24, 1 + 0x1.8p-23});
  expect_rounded_to_all("F64", values);
}

TEST(SafetensorsValues, BeyondTheScalarAreNamed) {
  const TemporaryFolder folder;
  const std::string before = "tokennorm: " + (folder / "values").string() + ": tensor \"x\": ";
  EXPECT_EQ(error_of(folder, "BF16", Eigen::half{}, Eigen::bfloat16(-1e6f)),
            before + "value 1 is -999424; the largest half is 65504");
  EXPECT_EQ(error_of(folder, "F64", float{}, 1e300),
            before + "value 1 is 1e+300; the largest float is 3.40282e+38");
  EXPECT_EQ(error_of(folder, "F32", Eigen::bfloat16{}, std::numeric_limits<float>::max()),
            before + "value 1 is 3.40282e+38; the largest bfloat16 is 3.38953e+38");

  LayerNorm<Eigen::half> norm(2, {.shift = false});
  SafetensorsWriter writer;
  writer.add("n.weight", Eigen::Vector2f(1, 1e6f));
  writer.save(folder / "norm");
  EXPECT_EQ(message_of<std::runtime_error>(
                [&] { load_norm(norm, Safetensors::open(folder / "norm"), "n"); }),
            "tokennorm: LayerNorm(2): " + (folder / "norm").string() +
                ": tensor \"n.weight\": value 1 is 1e+06; the largest half is 65504");
}

TEST(SafetensorsValues, OfTheSameTypeKeepTheirBits) {
  const TemporaryFolder folder;
  const auto values = all_of_16_bits<Eigen::bfloat16>();  // NaNs with every payload among them
  const auto read = file_of(folder, "BF16", values).matrix<Eigen::bfloat16>("x");
  EXPECT_EQ(std::memcmp(static_cast<const void*>(read.data()),
                        static_cast<const void*>(values.data()), values.size() * 2),
            0);
}

// ---- shards

TEST(ShardedCheckpoint, OpensAsOne) {
  const TemporaryFolder folder;
  folder.write("one.safetensors",
               file_bytes(R"({"__metadata__":{"format":"pt","of":"one"},)"
                          R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                          R"("not in the index":{"dtype":"F32","shape":[],"data_offsets":[8,12]}})",
                          12));
  folder.write("two.safetensors",
               file_bytes(R"({"__metadata__":{"of":"two","two":"2"},)"
                          R"("b":{"dtype":"U8","shape":[1,2],"data_offsets":[0,2]},)"
                          R"("a":{"dtype":"U8","shape":[3],"data_offsets":[2,5]},)"
                          R"("c":{"dtype":"F16","shape":[1,2],"data_offsets":[5,9]}})",
                          9));
  const auto index = folder.write(
      "model.safetensors.index.json",
      "{\n  \"metadata\": {\"total_size\": 12.5, \"x\": [[{\"weight_map\": 1}], null, -1, true]},\n"
      R"(  "weight_map": {"c": "two.safetensors", "a": "one.safetensors", "b": "two.safetensors"})"
      "\n}\n");
  const auto file = Safetensors::open(index);
  EXPECT_EQ(file.names(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(file.dtype("a"), "F32");
  EXPECT_EQ(file.shape("c"), (std::vector<Index>{1, 2}));
  EXPECT_EQ(file.metadata(),
            (std::map<std::string, std::string>{{"format", "pt"}, {"of", "one"}, {"two", "2"}}));
  EXPECT_EQ(std::bit_cast<std::uint32_t>(file.matrix<float>("a")(1)), 0x01010101U);
  EXPECT_EQ(file.matrix<Eigen::half>("c").cols(), 2);
  expect_error([&] { file.matrix<float>("not in the index"); }, {"index.json", "not among the 3"});
  expect_error([&] { file.matrix<float>("b"); }, {"two.safetensors", "tensor \"b\"", "U8"});
}

/// As a cache of downloads has them: each name leads to a file under another name, elsewhere.
TEST(ShardedCheckpoint, StandsWhereItsNamesStandNotWhereTheirLinksLead) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "blobs");
  std::filesystem::create_directory(folder / "snapshot");
  folder.write("blobs/1",
               file_bytes(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8));
  folder.write("blobs/2", R"({"weight_map": {"a": "one.safetensors"}})");
  std::filesystem::create_symlink("../blobs/1", folder / "snapshot/one.safetensors");
  std::filesystem::create_symlink("../blobs/2", folder / "snapshot/model.safetensors.index.json");
  const auto file = Safetensors::open(folder / "snapshot/model.safetensors.index.json");
  EXPECT_EQ(file.matrix<float>("a").cols(), 2);
  EXPECT_EQ(file.file_name("a"), (folder / "snapshot/one.safetensors").string());
}

// ---- where the system has no descriptors

TEST(StreamedFile, ReadsWhatTheDescriptorReads) {
  const TemporaryFolder folder;
  const std::string bytes = hand_made_file();
  const auto path = folder.write("a", bytes);
  const detail::StreamedFile file(path);
  EXPECT_EQ(file.size(), bytes.size());
  for (const std::size_t begin : {std::size_t{0}, std::size_t{7}, bytes.size() - 4}) {
    std::string part(4, '\0');
    file.read(begin, part.data(), part.size());
    EXPECT_EQ(part, bytes.substr(begin, 4));
  }
  file.read(bytes.size(), nullptr, 0);
  char beyond[5];
  expect_error([&] { file.read(bytes.size() - 4, beyond, 5); }, {path.string(), "reading"});
  expect_error([&] { detail::StreamedFile(folder / "none"); }, {"none", "cannot be opened"});
}

}  // namespace
}  // namespace tokennorm::test
