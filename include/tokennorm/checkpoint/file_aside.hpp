// SPDX-License-Identifier: MIT
/// A file that is there under another name in its folder until it is complete: whoever opens it
/// sees what was there before, or all of the new one.
///
///     FileAside file(path);      refuses what is no file, such as a folder, pipe or device
///     file.write(bytes);
///     file.rename();             without it nothing has happened
///
/// Links    a symbolic link stays, and what it leads to is written, whether that is there or not.
///          Of a file with several names (hard links) only this one is replaced
/// Mode     that of the file that is there; a new one has what the system gives new files
/// Throws   std::runtime_error that names the file and what the system says
#pragma once

#include "tokennorm/checkpoint/random_access_file.hpp"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace tokennorm::detail {

class FileAside {
 public:
  explicit FileAside(const std::filesystem::path& path) : path_(path), target_(path) {
    std::error_code error;
    const std::filesystem::file_status there = std::filesystem::status(path_, error);
    const bool is_new = there.type() == std::filesystem::file_type::not_found;
    if (error && !is_new) fail("cannot be written", error);
    if (!path_.has_filename() || (!is_new && !std::filesystem::is_regular_file(there))) {
      fail_with<std::runtime_error>({path_.string().c_str()},
                                    {"is not a file; expected one, or a new name"});
    }
    // The system has followed the links just now, so that they do not go round in a circle.
    while (std::filesystem::is_symlink(std::filesystem::symlink_status(target_, error))) {
      target_ = target_.parent_path() / std::filesystem::read_symlink(target_, error);
      if (error) fail("cannot be written", error);
    }
    create();
    if (!is_new) std::filesystem::permissions(aside_, there.permissions(), error);
    if (!is_new && error) fail("cannot keep its mode", error);
  }
  FileAside(const FileAside&) = delete;
  FileAside& operator=(const FileAside&) = delete;
  ~FileAside() { abandon(); }

  void write(std::string_view bytes) {
    check(std::fwrite(bytes.data(), 1, bytes.size(), file_) == bytes.size());
  }
  void rename() {
    check(std::fflush(file_) == 0);
#ifdef TOKENNORM_HAS_POSIX_FILES
    check(::fsync(::fileno(file_)) == 0);  // or the name could outlive a crash, and the bytes not
#endif
    check(std::fclose(std::exchange(file_, nullptr)) == 0);
    std::error_code error;
    std::filesystem::rename(aside_, target_, error);
    if (error) fail("cannot take its name", error);
    aside_.clear();
  }

 private:
  /// Under a name that nothing has, however long the file's own is.
  void create() {
    std::random_device random;
    do {
      aside_ = target_.parent_path() / ("." + std::to_string(random()) + ".part");
      errno = 0;
      file_ = std::fopen(aside_.string().c_str(), "wbx");
    } while (file_ == nullptr && errno == EEXIST);
    if (file_ != nullptr) return;
    aside_.clear();
    fail("cannot be written", std::error_code(errno, std::generic_category()));
  }
  void check(bool done) {
    if (!done) fail("writing it failed", std::error_code(errno, std::generic_category()));
  }
  /// Removes what there is first: without exceptions the program ends here.
  [[noreturn]] void fail(const char* fault, const std::error_code& error) {
    abandon();
    fail_system(path_.string(), fault, error);
  }
  void abandon() {
    if (file_ != nullptr) std::fclose(std::exchange(file_, nullptr));
    std::error_code ignored;
    if (!aside_.empty()) std::filesystem::remove(aside_, ignored);
  }

  std::filesystem::path path_;    // as it was given
  std::filesystem::path target_;  // where its links lead
  std::filesystem::path aside_;   // empty where there is none
  std::FILE* file_ = nullptr;
};

}  // namespace tokennorm::detail
