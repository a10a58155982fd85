// SPDX-License-Identifier: MIT
// Prints the accuracy table of one norm: see ../accuracy.sh. Ends with 1 where a bound is broken.
#include "measure.hpp"

#include <CLI/CLI.hpp>

#include <iostream>
#include <map>
#include <string>
#include <vector>

namespace tokennorm::test {
namespace {

template <class Kind>
bool print_table(const Plan& plan) {
  const std::vector<Contestant> all = contestants();
  std::vector<std::string> names;
  for (const Contestant& one : all) names.push_back(one.name);
  AccuracyTable table(names);
  Index tried = 0;
  for (const Subject& one :
       {subject<Case<Kind, float>>(), subject<Case<Kind, double>>(),
        subject<Case<Kind, Eigen::half>>(), subject<Case<Kind, Eigen::bfloat16>>()})
    tried = Measurement(one, plan, all, table).run();
  table.print(std::cout, Kind::name);
  std::cout << "\nSearched: " << tried << " rows of each scalar, seed " << plan.seed << ".\n\n";

  bool holds = true;
  for (const Line& line : table.lines()) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      const Worst& worst = line.worst[i];
      if (all[i].peer != nullptr || (worst.units <= line.bound && !worst.is_nan)) continue;
      std::cerr << "test_accuracy: the bound is broken: " << Kind::name << ", " << line.result
                << ", " << line.rows << ", " << all[i].name << ": " << worst.text() << " units\n";
      holds = false;
    }
  }
  return holds;
}

}  // namespace
}  // namespace tokennorm::test

int main(int argc, char** argv) {
  using namespace tokennorm::test;
  enum class NormName { layer, rms };
  const std::map<std::string, NormName> norms = {{"layer", NormName::layer},
                                                 {"rms", NormName::rms}};
  Plan plan;
  NormName norm = NormName::layer;
  CLI::App app("The worst errors of a norm, in units of its bounds");
  app.add_option("--norm", norm, "layer or rms")->transform(CLI::CheckedTransformer(norms));
  app.add_option("--rows", plan.searched_rows, "Rows that the search tries, of each scalar")
      ->check(CLI::PositiveNumber);
  app.add_option("--seed", plan.seed, "Of the search");
  app.add_option("--most-channels", plan.most_channels, "Leave longer hard rows out")
      ->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  const bool holds =
      norm == NormName::layer ? print_table<LayerKind>(plan) : print_table<RMSKind>(plan);
  return holds ? 0 : 1;
}
