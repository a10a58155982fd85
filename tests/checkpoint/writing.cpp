// SPDX-License-Identifier: MIT
// SafetensorsWriter: what it writes, read back; its bytes; and what it does when it cannot write.
#include "../support/random_tokens.hpp"
#include "files.hpp"
#include <tokennorm/checkpoint/safetensors.hpp>

#include <gtest/gtest.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <type_traits>
#include <vector>

#if __has_include(<sys/stat.h>)
#include <sys/stat.h>
#endif
#if __has_include(<sys/resource.h>)
#include <sys/resource.h>
#endif

namespace tokennorm::test {
namespace {

using AllScalars = ::testing::Types<double, float, Eigen::half, Eigen::bfloat16>;

template <class Scalar>
class RoundTrip : public ::testing::Test {};
TYPED_TEST_SUITE(RoundTrip, AllScalars);

template <class A, class B>
bool same_bits(const A& a, const B& b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  return a.size() == 0 ||
         std::memcmp(static_cast<const void*>(a.data()), static_cast<const void*>(b.data()),
                     static_cast<std::size_t>(a.size()) * sizeof(typename A::Scalar)) == 0;
}

TYPED_TEST(RoundTrip, KeepsTheBitsOfEveryShape) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  std::map<std::string, TokenMatrix<TypeParam>> all;
  for (const Shape shape :
       {Shape{1, 1}, {1, 7}, {7, 1}, {3, 5}, {0, 4}, {4, 0}, {0, 0}, {61, 67}}) {
    const std::string name = std::to_string(shape.tokens) + "x" + std::to_string(shape.channels);
    SCOPED_TRACE(name);
    all[name] = random_normal<TokenMatrix<TypeParam>>(shape, Seed{30});
    writer.add(name, all[name]);
  }
  writer.save(folder / "a.safetensors");
  const auto file = Safetensors::open(folder / "a.safetensors");
  EXPECT_EQ(file.names().size(), all.size());
  for (const auto& [name, matrix] : all) {
    SCOPED_TRACE(name);
    EXPECT_TRUE(same_bits(file.matrix<TypeParam>(name), matrix));
    EXPECT_EQ(file.shape(name), (std::vector<Index>{matrix.rows(), matrix.cols()}));
    EXPECT_EQ(file.dtype(name), detail::dtype_of<TypeParam>);
  }
}

TYPED_TEST(RoundTrip, TakesAnyExpressionInTheOrderOfItsRows) {
  using Matrix = Eigen::Matrix<TypeParam, Eigen::Dynamic, Eigen::Dynamic>;  // in columns
  const Matrix m = random_normal<Matrix>({6, 9}, Seed{31});
  const TokenMatrix<TypeParam> rows = m;
  const Eigen::Matrix<TypeParam, Eigen::Dynamic, 1> vector = m.col(2);
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  writer.add("columns", m);
  writer.add("block", m.block(1, 2, 3, 4));
  writer.add("transpose", m.transpose());
  writer.add("array", m.array().abs());
  writer.add("column", m.col(3));
  writer.add("row", m.row(3));
  writer.add("vector", vector);
  writer.add("fixed", Eigen::Matrix<TypeParam, 2, 2>(m.template topLeftCorner<2, 2>()));
  writer.save(folder / "a.safetensors");

  const auto file = Safetensors::open(folder / "a.safetensors");
  const auto read = [&](const char* name) { return file.matrix<TypeParam>(name); };
  EXPECT_TRUE(same_bits(read("columns"), rows));
  EXPECT_TRUE(same_bits(read("block"), rows.block(1, 2, 3, 4).eval()));
  EXPECT_TRUE(same_bits(read("transpose"), TokenMatrix<TypeParam>(rows.transpose())));
  EXPECT_TRUE(same_bits(read("array"), TokenMatrix<TypeParam>(rows.array().abs())));
  EXPECT_TRUE(same_bits(read("column"), TokenMatrix<TypeParam>(m.col(3).transpose())));
  EXPECT_TRUE(same_bits(read("row"), TokenMatrix<TypeParam>(m.row(3))));
  EXPECT_TRUE(same_bits(read("vector"), TokenMatrix<TypeParam>(m.col(2).transpose())));
  EXPECT_TRUE(same_bits(read("fixed"), rows.topLeftCorner(2, 2).eval()));
  for (const char* name : {"column", "vector"})
    EXPECT_EQ(file.shape(name), std::vector<Index>{6}) << name;
  EXPECT_EQ(file.shape("row"), std::vector<Index>{9});
  EXPECT_EQ(file.shape("transpose"), (std::vector<Index>{9, 6}));
}

TEST(SafetensorsWriter, WritesTheFormatsBytes) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  writer.metadata("format", "pt");
  writer.add("half", Eigen::Vector<Eigen::half, 1>(Eigen::half(1)));
  writer.add("x", TokenMatrix<float>{{1, 2}, {-1, 0}});
  writer.save(folder / "a.safetensors");
  const std::string header = R"({"__metadata__":{"format":"pt"},)"
                             R"("x":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
                             R"("half":{"dtype":"F16","shape":[1],"data_offsets":[16,18]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  const std::string data("\0\0\x80\x3f\0\0\0\x40\0\0\x80\xbf\0\0\0\0\x00\x3c", 18);
  EXPECT_EQ(read_bytes(folder / "a.safetensors"), length_bytes(padded.size()) + padded + data);
  EXPECT_EQ(padded.size() % 8, 0U);
}

TEST(SafetensorsWriter, WithoutTensorsWritesAFileWithoutTensors) {
  const TemporaryFolder folder;
  SafetensorsWriter().save(folder / "a");
  EXPECT_EQ(read_bytes(folder / "a"), length_bytes(8) + "{}      ");
  EXPECT_TRUE(Safetensors::open(folder / "a").names().empty());
}

TEST(SafetensorsWriter, NamesAndMetadataAreAnyText) {
  const std::string texts[] = {"",
                               "\"",
                               "\\",
                               "a\nb\t\x01\x1f\x7f",
                               std::string("a\0b", 3),
                               "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
                               "a/b",
                               "dtype"};
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  for (const std::string& text : texts) {
    writer.add(text, Eigen::RowVector2f(1, 2));
    writer.metadata(text, text);
  }
  writer.save(folder / "a");
  const auto file = Safetensors::open(folder / "a");
  for (const std::string& text : texts) {
    EXPECT_TRUE(file.contains(text)) << text;
    EXPECT_EQ(file.metadata().at(text), text);
  }
}

// Wide ones go before narrow ones. Were all moved for each wide one, this would take minutes.
TEST(SafetensorsWriter, PutsVeryManyTensorsInOrder) {
  const TemporaryFolder folder;
  const auto path = folder / "many.safetensors";
  SafetensorsWriter writer;
  constexpr int count = 40'000;
  for (int i = 0; i < count; ++i) {
    writer.add("narrow." + std::to_string(i), Eigen::Vector<Eigen::half, 1>(Eigen::half(1)));
    writer.add("wide." + std::to_string(i), Eigen::Vector2d(1, i));
  }
  writer.save(path);
  const auto file = Safetensors::open(path);
  EXPECT_EQ(file.names().size(), 2 * count);
  for (const int i : {0, 1, count - 1})
    EXPECT_EQ(file.matrix<double>("wide." + std::to_string(i))(1), i);
}

TEST(SafetensorsWriter, RefusesWhatItCannotWrite) {
  SafetensorsWriter writer;
  writer.add("x", Eigen::Vector2f(1, 2));
  writer.metadata("k", "v");
  const auto refused = [](const auto& f, const std::vector<std::string_view>& words) {
    expect_error<std::invalid_argument>(f, words);
  };
  refused([&] { writer.add("x", Eigen::Vector2f(1, 2)); }, {"tensor \"x\"", "already"});
  refused([&] { writer.add("__metadata__", Eigen::Vector2f(1, 2)); },
          {"\"__metadata__\" is reserved"});
  refused([&] { writer.add("a\xff", Eigen::Vector2f(1, 2)); }, {"UTF-8"});
  refused([&] { writer.metadata("k", "w"); }, {"metadata \"k\"", "already"});
  refused([&] { writer.metadata("\xff", "w"); }, {"UTF-8"});
  refused([&] { writer.metadata("l", "\xed\xa0\x80"); }, {"UTF-8"});  // half of a pair

  const TemporaryFolder folder;  // and has kept what it had
  writer.save(folder / "a");
  EXPECT_EQ(Safetensors::open(folder / "a").names(), std::vector<std::string>{"x"});
  EXPECT_EQ(Safetensors::open(folder / "a").metadata().at("k"), "v");
}

Index file_count(const TemporaryFolder& folder) {
  return std::distance(std::filesystem::directory_iterator(folder.path()), {});
}

TEST(SafetensorsWriter, ReplacesAFileAndLeavesOneThatIsOpenAlone) {
  if (std::is_same_v<detail::RandomAccessFile, detail::StreamedFile>) {
    GTEST_SKIP() << "files are not kept open here";
  }
  const TemporaryFolder folder;
  SafetensorsWriter first, second;
  first.add("x", Eigen::Vector2f(1, 2));
  second.add("x", Eigen::Vector2f(3, 4));
  first.save(folder / "a");
  const auto open = Safetensors::open(folder / "a");
  second.save(folder / "a");
  EXPECT_EQ(open.matrix<float>("x"), Eigen::RowVector2f(1, 2));
  EXPECT_EQ(Safetensors::open(folder / "a").matrix<float>("x"), Eigen::RowVector2f(3, 4));
  EXPECT_EQ(file_count(folder), 1);
}

TEST(SafetensorsWriter, ReportsWhatTheSystemRefuses) {
  const TemporaryFolder folder;
  SafetensorsWriter writer;
  writer.add("x", Eigen::Vector2f(1, 2));
  expect_error([&] { writer.save(folder / "none/a"); }, {"none/a", "cannot be written", "No such"});
  std::filesystem::create_directory(folder / "a");
  expect_error([&] { writer.save(folder / "a"); }, {"/a: is not a file; expected one"});
  expect_error([&] { writer.save(folder / "b/"); }, {"/b/: is not a file; expected one"});
  std::filesystem::create_symlink("second", folder / "first");
  std::filesystem::create_symlink("first", folder / "second");
  expect_error([&] { writer.save(folder / "first"); }, {"/first: ", "cannot be written", "levels"});
  EXPECT_EQ(file_count(folder), 3);  // the folder a and the links: nothing else is left behind
}

TEST(SafetensorsWriter, WritesANameAsLongAsThereMayBe) {
  const TemporaryFolder folder;
  const std::string name(255, 'n');
  SafetensorsWriter().save(folder / name);
  EXPECT_TRUE(Safetensors::open(folder / name).names().empty());
  EXPECT_EQ(file_count(folder), 1);
}

TEST(SafetensorsWriter, WritesWhatALinkLeadsTo) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "elsewhere");
  folder.write("elsewhere/old", "old");
  std::filesystem::create_symlink("elsewhere/old", folder / "relative");
  std::filesystem::create_symlink(folder / "relative", folder / "chain");
  std::filesystem::create_symlink("elsewhere/new", folder / "dangling");
  std::filesystem::create_symlink("elsewhere", folder / "folder");
  for (const char* name : {"relative", "chain", "dangling"}) {
    SCOPED_TRACE(name);
    SafetensorsWriter writer;
    writer.add(name, Eigen::Vector2f(1, 2));
    writer.save(folder / name);
    EXPECT_TRUE(std::filesystem::is_symlink(folder / name));
    EXPECT_TRUE(Safetensors::open(folder / name).contains(name));
  }
  EXPECT_TRUE(Safetensors::open(folder / "elsewhere/old").contains("chain"));
  EXPECT_TRUE(Safetensors::open(folder / "elsewhere/new").contains("dangling"));
  SafetensorsWriter().save(folder / "folder/new");
  EXPECT_TRUE(Safetensors::open(folder / "elsewhere/new").names().empty());
  EXPECT_EQ(file_count(folder), 5);
}

#if __has_include(<sys/stat.h>)
TEST(SafetensorsWriter, KeepsTheModeOfTheFileAndGivesANewOneTheUsual) {
  using std::filesystem::perms;
  const TemporaryFolder folder;
  const auto mode = [&](const char* name) {
    return std::filesystem::status(folder / name).permissions();
  };
  for (const perms kept : {perms{0600}, perms{0444}, perms{0666}, perms{0751}}) {
    folder.write("old", "old");
    std::filesystem::permissions(folder / "old", kept);
    SafetensorsWriter().save(folder / "old");
    EXPECT_EQ(mode("old"), kept);
    EXPECT_TRUE(Safetensors::open(folder / "old").names().empty());
    std::filesystem::remove(folder / "old");
  }
  const mode_t before = umask(027);
  SafetensorsWriter().save(folder / "new");
  umask(before);
  EXPECT_EQ(mode("new"), perms{0640});
}

TEST(SafetensorsWriter, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("pipe", folder / "link");
  std::filesystem::create_symlink("/dev/null", folder / "null");
  // Root could replace a device, which must not happen to a true one where this fails.
  for (const char* name : {"pipe", "link", "null"}) {
    expect_error([&] { SafetensorsWriter().save(folder / name); },
                 {std::string("/") + name + ": is not a file; expected one, or a new name"});
  }
  EXPECT_TRUE(std::filesystem::is_fifo(folder / "pipe"));
  EXPECT_EQ(file_count(folder), 3);
}
#endif

#if __has_include(<sys/resource.h>)
/// No file grows beyond so many bytes, until the end of its scope.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST(SafetensorsWriter, ReportsAFullDiskAndLeavesTheOldFile) {
  const TemporaryFolder folder;
  SafetensorsWriter old, larger;
  old.add("x", Eigen::Vector2f(1, 2));
  old.save(folder / "a");
  for (const Index size : {Index{20000}, Index{1000}}) {  // fails in a write; when it is closed
    larger = {};
    larger.add("x", Eigen::VectorXf::Ones(size));
    const FileSizeLimit limit(1000);
    expect_error([&] { larger.save(folder / "a"); }, {"/a: ", "writing it failed", "too large"});
  }
  EXPECT_EQ(Safetensors::open(folder / "a").matrix<float>("x"), Eigen::RowVector2f(1, 2));
  EXPECT_EQ(file_count(folder), 1);
}
#endif

}  // namespace
}  // namespace tokennorm::test
