// SPDX-License-Identifier: MIT
/// The sizes of the study: see command_line.hpp for what is said of them.
#pragma once

#include "sublayer.hpp"

#include <algorithm>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

namespace study {

struct Options {
  std::filesystem::path out = "placement_study";
  std::vector<std::string> parts = {"a", "b", "c", "d"};
  unsigned long seed = 1;
  unsigned threads = std::max(1U, std::thread::hardware_concurrency());
  bool quick = false;

  Index layers = 24;         // of the character models
  Index largest_depth = 48;  // of part a
  Index channels = 48;
  Index heads = 4;
  Index context = 32;
  Index batch = 8;  // sequences
  Index steps = 400;
  Index repeats = 20;  // of part a, each from other weights

  bool has(const char* part) const {
    return std::find(parts.begin(), parts.end(), part) != parts.end();
  }
};

}  // namespace study
