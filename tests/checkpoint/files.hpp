// SPDX-License-Identifier: MIT
// Files for the tests, put together by hand: nothing here goes through the library.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace tokennorm::test {

/// A folder that is there until the end of its scope.
class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(std::filesystem::temp_directory_path() /
              ("tokennorm_" + std::to_string(std::random_device()()))) {
    std::filesystem::create_directory(path_);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }

  /// Writes a file and returns its path.
  std::filesystem::path write(std::string_view name, std::string_view bytes) const {
    std::ofstream stream(path_ / name, std::ios::binary);
    stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!stream.flush()) throw std::runtime_error("the test cannot write its file");
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

/// A file of its own that is there until the program ends.
inline std::filesystem::path lasting_file(std::string_view bytes) {
  static const TemporaryFolder folder;
  static int number = 0;
  return folder.write(std::to_string(number++), bytes);
}

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

/// Eight bytes, little-endian.
inline std::string length_bytes(std::uint64_t length) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i) & 0xff);
  return bytes;
}

/// The header with its true length, then so many bytes of data.
inline std::string file_bytes(std::string_view header, std::size_t data_size = 0) {
  return length_bytes(header.size()) + std::string(header) + std::string(data_size, '\x01');
}

/// Calls f, which must throw an Exception whose message has all these words.
template <class Exception = std::runtime_error, class F>
void expect_error(const F& f, const std::vector<std::string_view>& words) {
  try {
    f();
    ADD_FAILURE() << "no error";
  } catch (const Exception& error) {
    const std::string_view message = error.what();
    EXPECT_TRUE(message.starts_with("tokennorm: ")) << message;
    EXPECT_LT(message.size(), 600U);
    for (const std::string_view word : words)
      EXPECT_NE(message.find(word), message.npos) << message << "\nexpected: " << word;
  }
}

/// A file that breaks a rule of its format.
struct BadFile {
  std::string bytes;
  std::vector<std::string_view> words;  // of the message
};

/// Each is refused by open(path), with words that name the file too.
template <class Open>
void expect_refused(const std::vector<BadFile>& files, std::string_view name, const Open& open) {
  const TemporaryFolder folder;
  for (const BadFile& file : files) {
    SCOPED_TRACE(file.bytes.substr(0, 120));
    const auto path = folder.write(name, file.bytes);
    const std::string who = "tokennorm: " + path.string() + ": ";
    std::vector<std::string_view> words = file.words;
    words.push_back(who);
    expect_error([&] { open(path); }, words);
  }
}

/// Whatever is missing at the end of a good file, it is refused.
template <class Open>
void expect_every_prefix_refused(std::string_view good, std::string_view name, const Open& open) {
  const TemporaryFolder folder;
  for (std::size_t size = 0; size < good.size(); ++size) {
    SCOPED_TRACE(size);
    const auto path = folder.write(name, good.substr(0, size));
    expect_error([&] { open(path); }, {name});
  }
  EXPECT_NO_THROW(open(folder.write(name, good)));
}

}  // namespace tokennorm::test
