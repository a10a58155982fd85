// SPDX-License-Identifier: MIT
// The time of this revision over that of another, by the same compiler, in turn on the same memory:
// what bench/run.sh --against prints. Google Benchmark gives each contestant memory of its own, and
// a few per cent depend on where it lies.
#include "peers/peer.hpp"
#include "support/buffers.hpp"
#include "support/shape.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <regex>
#include <string>
#include <vector>

extern "C" {
extern const tokennorm::bench::Peer tokennorm_bench_this_revision, tokennorm_bench_other_revision;
}

namespace tokennorm::bench {
namespace {

constexpr double most_in_the_mean = 1.03, most_in_a_cell = 1.15;

struct Case {
  const char* name;
  Operation operation;
  Dtype dtype;
};
constexpr Case cases[] = {
    {"layer_norm", Operation::layer_norm, Dtype::float32},
    {"rms_norm", Operation::rms_norm, Dtype::float32},
    {"layer_norm_residual_add", Operation::layer_norm_residual_add, Dtype::float32},
    {"layer_norm_unstored_sum", Operation::layer_norm_unstored_sum, Dtype::float32},
    {"layer_norm_backward", Operation::layer_norm_backward, Dtype::float32},
    {"rms_norm_backward", Operation::rms_norm_backward, Dtype::float32},
    {"layer_norm_bfloat16", Operation::layer_norm, Dtype::bfloat16},
    {"rms_norm_bfloat16", Operation::rms_norm, Dtype::bfloat16}};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

using Clock = std::chrono::steady_clock;

double nanoseconds_per_call(Prepared& prepared, long calls) {
  const auto start = Clock::now();
  for (long i = 0; i < calls; ++i) prepared.call();
  const std::chrono::duration<double, std::nano> taken = Clock::now() - start;
  return taken.count() / static_cast<double>(calls);
}

struct Times {
  double ours, theirs, ratio;
};

/// Medians over rounds, in each of which both run on the same memory, one right after the other; in
/// the next one on other memory. The ratio is that of the two in a round: a shared machine runs
/// faster and slower, but hardly within milliseconds.
template <class Scalar>
Times measure(const Case& one, Shape shape, int rounds, double seconds) {
  std::vector<double> ours, theirs, ratios;
  for (int round = 0; round < rounds; ++round) {
    Buffer<Scalar> x(shape), update(shape), y(shape), sum(shape), dy(shape);
    Buffer<float> scale({1, shape.channels}), shift({1, shape.channels});
    Operands o{};
    o.operation = one.operation;
    o.dtype = one.dtype;
    o.tokens = shape.tokens;
    o.channels = shape.channels;
    o.epsilon = 1e-5;
    o.x = x.data();
    o.update = update.data();
    o.y = y.data();
    o.sum = sum.data();
    o.dy = dy.data();
    o.scale = scale.data();
    o.shift = shift.data();
    const std::array prepared = {tokennorm_bench_this_revision.prepare(o),
                                 tokennorm_bench_other_revision.prepare(o)};
    for (const auto& contestant : prepared) contestant->call();
    const double once = nanoseconds_per_call(*prepared[0], 3);
    const long calls = std::max(1L, std::lround(seconds * 1e9 / once));
    const std::size_t first = round % 2 == 0 ? 0 : 1;
    std::array<double, 2> time;
    for (const std::size_t i : {first, 1 - first})
      time[i] = nanoseconds_per_call(*prepared[i], calls);
    ours.push_back(time[0]);
    theirs.push_back(time[1]);
    ratios.push_back(time[0] / time[1]);
  }
  return {median(ours), median(theirs), median(ratios)};
}

int compare(const std::string& filter, int rounds, double seconds) {
  const std::regex wanted(filter);
  double logarithms = 0, worst = 0;
  int cells = 0, slower = 0;
  std::string worst_cell;
  std::printf("%-40s %12s %12s %9s\n", "", "this", "other", "this/other");
  for (const Case& one : cases) {
    for (const Shape shape : all_shapes) {
      const std::string name = std::string(one.name) + "/" + shape.text();
      if (!std::regex_search(name, wanted)) continue;
      const Times times = one.dtype == Dtype::bfloat16
                              ? measure<Eigen::bfloat16>(one, shape, rounds, seconds)
                              : measure<float>(one, shape, rounds, seconds);
      const double ratio = times.ratio;
      std::printf("%-40s %9.0f ns %9.0f ns %9.2f%s\n", name.c_str(), times.ours, times.theirs,
                  ratio, ratio > most_in_a_cell ? "  slower" : "");
      std::fflush(stdout);
      logarithms += std::log(ratio);
      ++cells;
      slower += ratio > most_in_a_cell;
      if (ratio > worst) {
        worst = ratio;
        worst_cell = name;
      }
    }
  }
  if (cells == 0) {
    std::fprintf(stderr, "bench_against: no cell matches %s\n", filter.c_str());
    return 1;
  }
  const double mean = std::exp(logarithms / cells);
  std::printf(
      "\n%d cells: geometric mean %.3f (at most %.2f: %s); worst %.2f at %s; %d above %.2f\n",
      cells, mean, most_in_the_mean, mean <= most_in_the_mean ? "met" : "missed", worst,
      worst_cell.c_str(), slower, most_in_a_cell);
  return 0;
}

}  // namespace
}  // namespace tokennorm::bench

int main(int argc, char** argv) {
  CLI::App app("The time of this revision over that of another");
  std::string filter = ".";
  int rounds = 15;
  double seconds = 0.002;
  app.add_option("--filter", filter, "Only cells whose name, operation/shape, matches");
  app.add_option("--rounds", rounds, "Rounds, of which the medians are taken")
      ->check(CLI::PositiveNumber);
  app.add_option("--min-time", seconds, "Seconds of each measurement")->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  return tokennorm::bench::compare(filter, rounds, seconds);
}
