// SPDX-License-Identifier: MIT
// The source tree, read as text: who includes whom, and what every header must have.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace fs = std::filesystem;
using Names = std::set<std::string>;

const fs::path source_dir = TOKENNORM_SOURCE_DIR;
const std::string umbrella = "tokennorm/tokennorm.hpp";

struct Header {
  std::string name;  // as a user includes it: tokennorm/core/checks.hpp
  std::vector<std::string> lines;
  Names includes;  // what stands between the quotes or angle brackets
};

Header read_header(const fs::path& path) {
  Header header{path.lexically_relative(source_dir / "include").generic_string(), {}, {}};
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    header.lines.push_back(line);
    const auto directive = line.find_first_not_of("# \t");
    const auto opening = line.find_first_of("<\"");
    const auto closing = line.find_last_of(">\"");
    if (line.starts_with('#') && line.compare(directive, 7, "include") == 0)
      header.includes.insert(line.substr(opening + 1, closing - opening - 1));
  }
  return header;
}

const std::vector<Header>& headers() {
  static const std::vector<Header> all = [] {
    std::vector<Header> result;
    for (const auto& entry : fs::recursive_directory_iterator(source_dir / "include"))
      if (entry.path().extension() == ".hpp") result.push_back(read_header(entry.path()));
    return result;
  }();
  return all;
}

Names header_names() {
  Names names;
  for (const Header& header : headers()) names.insert(header.name);
  return names;
}

/// The floors from the ground up. A header outside them is on the ground, the umbrella on the roof.
int floor_of(std::string_view name) {
  constexpr std::array floors = {"core", "kernels", "norm", "block", "checkpoint", "adapters"};
  if (name == umbrella) return static_cast<int>(floors.size());
  const auto has_floor = [&](std::string_view floor) {
    return name.starts_with("tokennorm/" + std::string(floor) + "/");
  };
  const auto floor = std::find_if(floors.begin(), floors.end(), has_floor);
  return floor == floors.end() ? 0 : static_cast<int>(floor - floors.begin());
}

bool is_standard_or_eigen(const std::string& include) {
  // What POSIX has is asked for by __has_include.
  const Names posix = {"fcntl.h", "sys/mman.h", "sys/stat.h", "unistd.h"};
  return posix.contains(include) || include.starts_with("Eigen/") ||
         include.starts_with("unsupported/Eigen/") ||
         include.find_first_of("./") == std::string::npos;
}

/// In a component of its own.
bool has_dependency(const std::string& name) {
  const Names safetensors = {"tokennorm/checkpoint/config.hpp",
                             "tokennorm/checkpoint/file_aside.hpp",
                             "tokennorm/checkpoint/json_events.hpp",
                             "tokennorm/checkpoint/safetensors.hpp",
                             "tokennorm/checkpoint/safetensors_header.hpp",
                             "tokennorm/checkpoint/shard_index.hpp"};
  return name.starts_with("tokennorm/adapters/") || safetensors.contains(name);
}

/// Files, which the umbrella leaves out: their formats are asked for by name.
bool is_of_files(const std::string& name) {
  const Names files = {
      "tokennorm/checkpoint/gguf.hpp",         "tokennorm/checkpoint/gguf_families.hpp",
      "tokennorm/checkpoint/gguf_header.hpp",  "tokennorm/checkpoint/gguf_reader.hpp",
      "tokennorm/checkpoint/open_tensors.hpp", "tokennorm/checkpoint/random_access_file.hpp",
      "tokennorm/checkpoint/stored_tensor.hpp"};
  return files.contains(name);
}

TEST(Headers, IncludeOnlyTheirOwnFloorAndLowerOnes) {
  for (const Header& header : headers())
    for (const std::string& include : header.includes) {
      if (!include.starts_with("tokennorm/")) continue;
      EXPECT_LE(floor_of(include), floor_of(header.name)) << header.name << ": " << include;
    }
}

TEST(Headers, IncludeNothingButTokennormEigenAndTheStandardLibrary) {
  const Names own = header_names();
  for (const Header& header : headers()) {
    if (has_dependency(header.name)) continue;
    for (const std::string& include : header.includes)
      EXPECT_TRUE(own.contains(include) || is_standard_or_eigen(include))
          << header.name << ": " << include;
  }
}

/// What a header includes of tokennorm, itself or through others; the header among them.
void add_with_all_it_includes(const std::string& name, Names& reached) {
  if (!reached.insert(name).second) return;
  for (const Header& header : headers()) {
    if (header.name != name) continue;
    for (const std::string& include : header.includes)
      if (include.starts_with("tokennorm/")) add_with_all_it_includes(include, reached);
  }
}

TEST(Headers, AreAllReachedFromTheUmbrellaButAdaptersAndFiles) {
  Names expected;
  for (const std::string& name : header_names())
    if (!has_dependency(name) && !is_of_files(name)) expected.insert(name);
  Names reached;
  add_with_all_it_includes(umbrella, reached);
  EXPECT_EQ(reached, expected);
}

TEST(Headers, IncludeNoAdapter) {
  const std::string_view adapters = "tokennorm/adapters/";
  for (const Header& header : headers()) {
    if (header.name.starts_with(adapters)) continue;  // of two headers
    for (const std::string& include : header.includes)
      EXPECT_FALSE(include.starts_with(adapters)) << header.name << ": " << include;
  }
}

std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> items;
  std::istringstream stream(list);
  for (std::string item; std::getline(stream, item, ':');) items.push_back(item);
  return items;
}

TEST(Headers, AreEachInOneFileSetThatIsInstalledAndVerified) {
  Names expected = header_names();
  for (const fs::path path : split(TOKENNORM_HEADERS_LEFT_OUT))
    expected.erase(path.lexically_relative("include").generic_string());
  Names listed;
  for (const fs::path path : split(TOKENNORM_HEADER_SET)) {
    const auto name = path.lexically_relative(source_dir / "include").generic_string();
    EXPECT_TRUE(listed.insert(name).second) << name << " is in two file sets";
  }
  EXPECT_EQ(listed, expected);
}

TEST(Headers, OpenWithLicenceAndDocumentation) {
  for (const Header& header : headers()) {
    SCOPED_TRACE(header.name);
    const auto has_spdx = [](const std::string& line) {
      return line.find("SPDX-License-Identifier") != std::string::npos;
    };
    const auto documents = [](const std::string& line) { return line.starts_with("/// "); };
    ASSERT_FALSE(header.lines.empty());
    EXPECT_EQ(header.lines[0], "// SPDX-License-Identifier: MIT");
    EXPECT_EQ(std::count_if(header.lines.begin(), header.lines.end(), has_spdx), 1);
    EXPECT_EQ(std::count(header.lines.begin(), header.lines.end(), "#pragma once"), 1);
    EXPECT_TRUE(std::any_of(header.lines.begin(), header.lines.end(), documents));
  }
}

TEST(Tree, HasNothingElseAtTheTop) {
  const Names expected = {"include", "tests",          "bench",     "examples",
                          "cmake",   "CMakeLists.txt", "README.md", "LICENSE"};
  for (const auto& entry : fs::directory_iterator(source_dir)) {
    const std::string name = entry.path().filename().string();
    const bool ignored_by_git = name.starts_with("build") || name == "out";
    EXPECT_TRUE(expected.contains(name) || name.starts_with('.') || ignored_by_git) << name;
  }
}

}  // namespace
