// SPDX-License-Identifier: MIT
// The pictures: see csv.hpp and plots/.
#include "claims.hpp"
#include "common/gnuplot.hpp"
#include "csv.hpp"

namespace study {

void draw(const std::filesystem::path& directory, const std::string& name,
          const std::string& caption) {
  if (!examples::has_gnuplot()) return;
  std::string lines;
  for (const auto& line : wrapped(caption, 135)) lines += (lines.empty() ? "" : "\n") + line;
  const auto plots = std::filesystem::path(PLACEMENT_STUDY_DIRECTORY) / "plots";
  examples::gnuplot(plots / (name + ".gp"), {plots.string(), directory.string(), lines});
}

}  // namespace study
