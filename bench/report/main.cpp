// SPDX-License-Identifier: MIT
// Prints the table of a benchmark run, and draws its pictures: bench_report --help
#include "cells.hpp"
#include "plots.hpp"
#include "table.hpp"
#include "trailing.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>

int main(int argc, char** argv) {
  using namespace tokennorm::bench;
  CLI::App app("Prints the table of a benchmark run, and where a peer is ahead.");
  std::filesystem::path json, plot;
  app.add_option("json", json, "What bench_tokennorm wrote with --by_cell or --benchmark_out")
      ->required()
      ->check(CLI::ExistingFile);
  app.add_option("--plot", plot, "Draw pictures into this directory, as SVG and PNG");
  CLI11_PARSE(app, argc, argv);
  try {
    std::ifstream stream(json);
    const auto file = nlohmann::json::parse(stream);
    const auto& context = file.at("context");
    const std::string machine = context.value("cpu", "") + ", " + context.value("isa", "") + ", " +
                                context.value("compiler", "") + " " + context.value("flags", "");
    const auto cells = read_cells(file);
    std::cout << machine << "\n" << context.value("date", "") << "\n\n";
    print_table(cells, std::cout);
    print_trailing(cells, std::cout);
    if (!plot.empty()) draw_plots(cells, machine, plot);
  } catch (const std::exception& error) {
    std::cerr << "bench_report: " << error.what() << "\n";
    return 1;
  }
}
