// SPDX-License-Identifier: MIT
/// The text that is learned where none is named.
#pragma once

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace gpt {

/// The README and the headers of the repository that this example was built from.
inline std::vector<std::filesystem::path> default_corpus() {
  const std::filesystem::path root = TOKENNORM_SOURCE_DIRECTORY;
  std::vector<std::filesystem::path> files;
  std::error_code missing;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(root / "include", missing)) {
    if (entry.path().extension() == ".hpp") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  if (std::filesystem::exists(root / "README.md")) files.insert(files.begin(), root / "README.md");
  if (files.empty()) {
    throw std::runtime_error("--corpus: the repository's own text is not at " + root.string() +
                             "; name one or more text files");
  }
  return files;
}

}  // namespace gpt
