// SPDX-License-Identifier: MIT
/// A file that is read at any place, of which only what is asked for is read: through one
/// descriptor where the system can (POSIX, with 64-bit offsets), else through a stream of its own
/// for each read.
///
///     size()               bytes, as they were when the file was opened
///     read(begin, to, n)   copies n bytes; the caller has seen that they are inside the file.
///                          const and thread-safe
///
/// Nothing is mapped into memory: of a file that another program shortens a map would end the
/// program by a signal, a read is an error; and copies from a map are not faster.
///
/// Throws   std::runtime_error that names the file and what the system says
#pragma once

#include "tokennorm/core/checks.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>

#if __has_include(<unistd.h>) && !defined(_WIN32)
#define TOKENNORM_HAS_POSIX_FILES
#include <fcntl.h>
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

#ifdef TOKENNORM_HAS_POSIX_FILES
class DescriptorFile {
 public:
  explicit DescriptorFile(const std::filesystem::path& path)
      : path_(path), size_(regular_file_size(path)) {
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor_ < 0) fail_system(path, "cannot be opened", last_error());
    struct stat now;
    // What is open is what was measured, though another file may have the name by now.
    if (::fstat(descriptor_, &now) != 0 || static_cast<std::uint64_t>(now.st_size) != size_) {
      ::close(descriptor_);
      fail_with<std::runtime_error>({path.c_str()}, {"changes while it is opened"});
    }
  }
  DescriptorFile(const DescriptorFile&) = delete;
  DescriptorFile& operator=(const DescriptorFile&) = delete;
  ~DescriptorFile() { ::close(descriptor_); }

  std::uint64_t size() const { return size_; }
  void read(std::uint64_t begin, void* to, std::size_t count) const {
    constexpr std::size_t most = 1 << 30;  // systems differ in how much they read at once
    auto* bytes = static_cast<char*>(to);
    while (count > 0) {
      const ssize_t done =
          ::pread(descriptor_, bytes, std::min(count, most), static_cast<off_t>(begin));
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) fail_system(path_, "reading it failed", last_error());
      if (done == 0) {
        fail_with<std::runtime_error>({path_.c_str()},
                                      {"ends at byte ", static_cast<Index>(begin), "; it had ",
                                       static_cast<Index>(size_), " bytes when it was opened"});
      }
      begin += static_cast<std::uint64_t>(done);
      bytes += done;
      count -= static_cast<std::size_t>(done);
    }
  }

 private:
  static std::error_code last_error() { return {errno, std::generic_category()}; }

  std::filesystem::path path_;
  std::uint64_t size_;
  int descriptor_ = -1;
};
// Streams reach beyond 2 GiB where 32-bit offsets do not.
using RandomAccessFile = std::conditional_t<sizeof(off_t) >= 8, DescriptorFile, StreamedFile>;
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
