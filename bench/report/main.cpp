// SPDX-License-Identifier: MIT
// Prints the table of a benchmark run, and draws its pictures: bench_report --help
#include "cells.hpp"
#include "plots.hpp"
#include "table.hpp"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>

namespace {

using tokennorm::bench::Machine;

void print_heading(const Machine& machine, const nlohmann::json& context) {
  std::cout << machine.text() << "\n" << context.value("date", "") << "\n\n";
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Prints the table of a benchmark run.");
  std::filesystem::path json, plot;
  app.add_option("json", json, "What bench_tokennorm wrote with --benchmark_out")
      ->required()
      ->check(CLI::ExistingFile);
  app.add_option("--plot", plot, "Draw pictures into this directory, as SVG and PNG");
  CLI11_PARSE(app, argc, argv);
  try {
    std::ifstream stream(json);
    const auto file = nlohmann::json::parse(stream);
    const auto cells = tokennorm::bench::read_cells(file);
    const Machine machine(file.at("context"));
    print_heading(machine, file.at("context"));
    tokennorm::bench::print_table(cells, std::cout);
    if (!plot.empty()) tokennorm::bench::draw_plots(cells, machine, plot);
  } catch (const std::exception& error) {
    std::cerr << "bench_report: " << error.what() << "\n";
    return 1;
  }
}
