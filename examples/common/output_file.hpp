// SPDX-License-Identifier: MIT
/// A file of numbers in the directory of --out.
#pragma once

#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace examples {

inline std::ofstream open_for_writing(const std::filesystem::path& file) {
  std::ofstream stream(file);
  if (!stream) throw std::runtime_error("--out: cannot write " + file.string());
  stream.precision(8);
  return stream;
}

}  // namespace examples
