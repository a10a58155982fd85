// SPDX-License-Identifier: MIT
// A file of 4 GiB, nearly all of it a hole, is opened and one tensor of it read: the rest is not
// touched.
#include "files.hpp"
#include <tokennorm/checkpoint/safetensors.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#if __has_include(<sys/mman.h>)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tokennorm::test {
namespace {

constexpr std::uint64_t large = std::uint64_t{1} << 32;

/// A map of the whole file, which says how many bytes of it the system has in memory.
class Residency {
 public:
  explicit Residency(const std::filesystem::path& path) {
    const int descriptor = ::open(path.c_str(), O_RDONLY);
    size_ = static_cast<std::size_t>(std::filesystem::file_size(path));
    address_ = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, descriptor, 0);
    ::close(descriptor);
  }
  Residency(const Residency&) = delete;
  Residency& operator=(const Residency&) = delete;
  ~Residency() { ::munmap(address_, size_); }

  std::uint64_t bytes() const {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    std::vector<unsigned char> pages((size_ + page - 1) / page);
    EXPECT_EQ(::mincore(address_, size_, pages.data()), 0);
    return page * static_cast<std::uint64_t>(std::count_if(pages.begin(), pages.end(),
                                                           [](auto flags) { return flags & 1; }));
  }

 private:
  std::size_t size_ = 0;  // of the map: with addresses of 32 bits, that of a part
  void* address_ = nullptr;
};

TEST(LargeFile, OneTensorIsReadWithoutTouchingTheRest) {
  const TemporaryFolder folder;
  const std::string header =
      R"({"first":{"dtype":"F64","shape":[32768,16384],"data_offsets":[0,4294967296]},)"
      R"("norm.weight":{"dtype":"F32","shape":[1024],"data_offsets":[4294967296,4294971392]}})";
  const auto path = folder.write("large.safetensors", length_bytes(header.size()) + header);
  const std::uint64_t data = 8 + header.size();
  std::error_code error;
  std::filesystem::resize_file(path, data + large + 4096, error);
  if (error) GTEST_SKIP() << "no file of 4 GiB here: " << error.message();
  {
    std::fstream stream(path, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekp(static_cast<std::streamoff>(data + large + 1023 * 4));
    stream.write("\0\0\x80\x3f", 4);
    ASSERT_TRUE(stream.flush());
  }
  struct stat status;
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  if (static_cast<std::uint64_t>(status.st_blocks) * 512 > (1 << 20)) {
    GTEST_SKIP() << "this file system has no holes in files";
  }

  const Residency residency(path);
  const auto start = std::chrono::steady_clock::now();
  const auto file = Safetensors::open(path);
  const auto opened = std::chrono::steady_clock::now();
  const auto weight = file.matrix<float>("norm.weight");
  const auto read = std::chrono::steady_clock::now();

  EXPECT_EQ(weight.cols(), 1024);
  EXPECT_EQ(weight.sum(), 1);
  EXPECT_EQ(weight(1023), 1);
  EXPECT_EQ(file.shape("first"), (std::vector<Index>{32768, 16384}));
  // The system reads ahead of what is touched, by some hundred kilobytes.
  const std::uint64_t resident = residency.bytes();
  EXPECT_LT(resident, std::uint64_t{16} << 20);
  const auto microseconds = [](auto duration) {
    return std::chrono::duration<double, std::micro>(duration).count();
  };
  std::printf("4 GiB: opened in %.0f µs, 1024 values read in %.0f µs, %.0f kB of it in memory\n",
              microseconds(opened - start), microseconds(read - opened),
              static_cast<double>(resident) / 1024);
}

}  // namespace
}  // namespace tokennorm::test

#endif
