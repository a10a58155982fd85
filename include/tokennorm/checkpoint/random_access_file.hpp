// SPDX-License-Identifier: MIT
/// A file that is read at any place: mapped into memory where the system can (POSIX, with addresses
/// of 64 bits), so that only the pages that are asked for are read; else through a stream of its
/// own for each read.
///
///     size()               bytes, as they were when the file was opened
///     read(begin, to, n)   copies n bytes; the caller has seen that they are inside the file.
///                          const and thread-safe
///
/// Throws   std::runtime_error that names the file and what the system says
/// Not covered: a file that another program shortens while it is mapped. The system then ends the
/// program with SIGBUS.
#pragma once

#include "tokennorm/core/checks.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#if __has_include(<sys/mman.h>) && __has_include(<unistd.h>)
#define TOKENNORM_HAS_MMAP
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#endif

namespace tokennorm::detail {

/// "tokennorm: model.safetensors: cannot be opened: No such file or directory"
[[noreturn, gnu::cold, gnu::noinline]] inline void fail_system(const std::string& file,
                                                               const char* fault,
                                                               const std::error_code& error) {
  const std::string reason = error ? error.message() : "the system does not say why";
  fail_with<std::runtime_error>({file.c_str()}, {fault, ": ", reason.c_str()});
}

/// The size of a file that can be read at any place: not a folder, pipe or device, whose opening
/// could wait for ever.
inline std::uint64_t regular_file_size(const std::filesystem::path& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (error) fail_system(path.string(), "cannot be opened", error);
  if (!std::filesystem::is_regular_file(status)) {
    fail_with<std::runtime_error>({path.string().c_str()}, {"is not a file; expected one"});
  }
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) fail_system(path.string(), "cannot be opened", error);
  return size;
}

class StreamedFile {
 public:
  explicit StreamedFile(const std::filesystem::path& path)
      : path_(path), size_(regular_file_size(path)) {
    open();
  }

  std::uint64_t size() const { return size_; }
  void read(std::uint64_t begin, void* to, std::size_t count) const {
    if (count == 0) return;
    std::ifstream stream = open();
    stream.seekg(static_cast<std::streamoff>(begin));
    stream.read(static_cast<char*>(to), static_cast<std::streamsize>(count));
    if (!stream) {
      fail_with<std::runtime_error>({path_.string().c_str()}, {"reading it failed"});
    }
  }

 private:
  std::ifstream open() const {
    std::ifstream stream(path_, std::ios::binary);
    if (!stream) fail_with<std::runtime_error>({path_.string().c_str()}, {"cannot be opened"});
    return stream;
  }

  std::filesystem::path path_;
  std::uint64_t size_;
};

#ifdef TOKENNORM_HAS_MMAP
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path) : size_(regular_file_size(path)) {
    if (size_ == 0) return;  // which cannot be mapped
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) fail_errno(path, "cannot be opened");
    struct stat now;
    // What is mapped is what was measured, though another file may have the name by now.
    const bool same =
        ::fstat(descriptor, &now) == 0 && static_cast<std::uint64_t>(now.st_size) == size_;
    void* const address =
        same ? ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0) : MAP_FAILED;
    const std::error_code error(errno, std::generic_category());
    ::close(descriptor);
    if (!same) fail_with<std::runtime_error>({path.c_str()}, {"changes while it is opened"});
    if (address == MAP_FAILED) fail_system(path, "cannot be mapped into memory", error);
    data_ = static_cast<const char*>(address);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() {
    if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
  }

  std::uint64_t size() const { return size_; }
  void read(std::uint64_t begin, void* to, std::size_t count) const {
    if (count > 0) std::memcpy(to, data_ + begin, count);
  }

 private:
  [[noreturn]] static void fail_errno(const std::filesystem::path& path, const char* fault) {
    fail_system(path, fault, std::error_code(errno, std::generic_category()));
  }

  std::uint64_t size_;
  const char* data_ = nullptr;
};
// What 32-bit addresses do not hold is not mapped.
using RandomAccessFile = std::conditional_t<sizeof(void*) >= 8, MappedFile, StreamedFile>;
#else
using RandomAccessFile = StreamedFile;
#endif

/// The whole of a file of text; `what` it is, "the index", in the error for a file that is longer
/// than such a file can be.
inline std::string read_text(const std::filesystem::path& path, const char* what,
                             std::uint64_t most) {
  const RandomAccessFile file(path);
  if (file.size() > most) {
    fail_with<std::runtime_error>({path.string().c_str()},
                                  {what, " has ", static_cast<Index>(file.size()),
                                   " bytes; expected at most ", static_cast<Index>(most)});
  }
  std::string text(file.size(), '\0');
  file.read(0, text.data(), text.size());
  return text;
}

}  // namespace tokennorm::detail
