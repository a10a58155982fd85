// SPDX-License-Identifier: MIT
// What a norm costs whose channels are divided over ranks: measured here at 1, 2 and 4 of them, and
// from a model that is checked against that, at more.
//
//     local      l(n) = l₀ + l₁·n                     a token of n channels: statistics and results
//     message    m(b) = ⌈log₂ P⌉·(α + b/β + r·γ)      to merge b bytes, of r records, over P ranks
//     sharded    T·l(C/P) + m(first) + m(24·(T − 64))                  the second where T > 64
//     gathered   T·l(C) + (P − 1)·(α + 4·T·C/P/β)     all channels of all tokens to all ranks by a
//                                                     ring, the norm of all, one's own kept
//     tokens     T/P·l(C) + 2·(P − 1)·(α + 4·T/P·C/P/β)    each rank gets T/P whole tokens and
//     gives
//                                                     them back: the layout that Megatron-LM's
//                                                     sequence parallelism has its norms in
//
// α and β are those of messages between two ranks, γ is what a record costs to merge, l₀ and l₁ are
// fitted to two widths. Source of the models: Thakur, Rabenseifner, Gropp 2005, "Optimization of
// Collective Communication Operations in MPICH", sections 3 and 4; of sequence parallelism:
// Korthikanti et al. 2022, arXiv:2205.05198, section 4.2.2.
#include <tokennorm/adapters/mpi.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <thread>
#include <vector>

namespace {

using tokennorm::Index;
using Tokens = tokennorm::TokenMatrix<float>;
using Norm = tokennorm::LayerNorm<float>;
constexpr Index in_first_message = 64;
constexpr double record_bytes = 24, first_bytes = 1600;

double now() { return MPI_Wtime(); }

/// The median of the seconds that f takes, over some rounds of as many calls as take a while.
double seconds(const std::function<void()>& f, int calls, int rounds = 21) {
  std::vector<double> all;
  f();
  for (int round = 0; round < rounds; ++round) {
    const double start = now();
    for (int i = 0; i < calls; ++i) f();
    all.push_back((now() - start) / calls);
  }
  std::nth_element(all.begin(), all.begin() + rounds / 2, all.end());
  return all[static_cast<std::size_t>(rounds / 2)];
}

/// Waits for the others without taking a core from them.
void wait_for_all() {
  MPI_Request request;
  MPI_Ibarrier(MPI_COMM_WORLD, &request);
  for (int done = 0; done == 0;) {
    MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

/// f(communicator of the first so many ranks), on those; the others wait. The first rank's result.
double on_ranks(int ranks, const std::function<double(MPI_Comm)>& f) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm some = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, rank < ranks ? 0 : MPI_UNDEFINED, rank, &some);
  double result = 0;
  if (some != MPI_COMM_NULL) {
    result = f(some);
    MPI_Comm_free(&some);
  }
  wait_for_all();
  MPI_Bcast(&result, 1, MPI_DOUBLE, 0, MPI_COMM_WORLD);
  return result;
}

/// One way between two ranks.
double one_way(int bytes) {
  return on_ranks(2, [&](MPI_Comm two) {
    std::vector<char> buffer(static_cast<std::size_t>(bytes));
    int rank = 0;
    MPI_Comm_rank(two, &rank);
    return seconds(
               [&] {
                 for (const int sender : {0, 1}) {
                   if (rank == sender) {
                     MPI_Send(buffer.data(), bytes, MPI_BYTE, 1 - rank, 0, two);
                   } else {
                     MPI_Recv(buffer.data(), bytes, MPI_BYTE, 1 - rank, 0, two, MPI_STATUS_IGNORE);
                   }
                 }
               },
               bytes > 100000 ? 20 : 200) /
           2;
  });
}

/// A norm of this many channels on each of so many ranks.
double norm_on(int ranks, Index tokens, Index channels_here) {
  return on_ranks(ranks, [&](MPI_Comm some) {
    const auto norm = tokennorm::sharded(Norm(channels_here), some);
    const Tokens x = Tokens::Random(tokens, channels_here);
    Tokens y(tokens, channels_here);
    return seconds([&] { norm(x, y); }, static_cast<int>(2000 / tokens) + 5);
  });
}

/// What one rank has to do by itself.
double local_norm(Index tokens, Index channels_here) {
  return on_ranks(1, [&](MPI_Comm) {
    const Norm norm(channels_here);
    const Tokens x = Tokens::Random(tokens, channels_here);
    Tokens y(tokens, channels_here);
    tokennorm::PartialStatistics<float> statistics;
    return seconds(
        [&] {
          norm.partial_statistics(x, statistics);
          norm.apply(x, statistics, y);
        },
        static_cast<int>(2000 / tokens) + 5);
  });
}

double merge_of_a_record() {
  constexpr Index tokens = 10000;
  return on_ranks(1, [&](MPI_Comm) {
    tokennorm::PartialStatistics<float> a, b;
    const Tokens x = Tokens::Random(tokens, 4);
    Norm(4).partial_statistics(x, a);
    Norm(4).partial_statistics(x, b);
    return seconds([&] { merge(a, b); }, 5) / static_cast<double>(tokens);
  });
}

struct Model {
  double latency = 0, bytes_per_second = 0, merge = 0;  // α, β, γ
  double of_token = 0, of_channel = 0;                  // l₀, l₁

  double local(double tokens, double channels) const {
    return tokens * (of_token + of_channel * channels);
  }
  double message(double ranks, double bytes, double records) const {
    return std::ceil(std::log2(ranks)) * (latency + bytes / bytes_per_second + records * merge);
  }
  double sharded(double ranks, double tokens, double channels) const {
    const double first = std::min<double>(tokens, in_first_message), rest = tokens - first;
    return local(tokens, channels / ranks) + message(ranks, first_bytes, in_first_message) +
           (rest > 0 ? message(ranks, record_bytes * rest, rest) : 0);
  }
  double ring(double ranks, double bytes_of_each) const {
    return (ranks - 1) * (latency + bytes_of_each / bytes_per_second);
  }
  double gathered(double ranks, double tokens, double channels) const {
    return local(tokens, channels) + ring(ranks, 4 * tokens * channels / ranks);
  }
  double by_tokens(double ranks, double tokens, double channels) const {
    return local(tokens / ranks, channels) + 2 * ring(ranks, 4 * tokens / ranks * channels / ranks);
  }
};

void print_plan(const Model& model, Index tokens) {
  std::printf("\nA LayerNorm of %ld tokens, in microseconds\n", static_cast<long>(tokens));
  std::printf("%9s %7s %12s %12s %12s %22s\n", "channels", "ranks", "sharded", "gathered", "tokens",
              "bytes of a rank, sharded");
  for (const double channels : {4096.0, 16384.0}) {
    for (const double ranks : {8.0, 64.0, 512.0, 4096.0}) {
      const auto t = static_cast<double>(tokens);
      std::printf("%9.0f %7.0f %12.1f %12.1f %12.1f %22.0f\n", channels, ranks,
                  1e6 * model.sharded(ranks, t, channels), 1e6 * model.gathered(ranks, t, channels),
                  1e6 * model.by_tokens(ranks, t, channels),
                  std::ceil(std::log2(ranks)) *
                      (first_bytes + record_bytes * std::max(0.0, t - in_first_message)));
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank = 0, ranks = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  double latency = 0, bandwidth = 0;
  CLI::App app{"What a norm costs whose channels are divided over the ranks of MPI."};
  app.add_option("--latency", latency, "of a message in the plan, microseconds (default: measured)")
      ->check(CLI::PositiveNumber);
  app.add_option("--bandwidth", bandwidth, "of it, GB/s (default: measured)")
      ->check(CLI::PositiveNumber);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = rank == 0 ? app.exit(error) : 0;
    MPI_Finalize();
    return code;
  }
  if (ranks < 2) {
    std::fprintf(stderr,
                 "bench_mpi: there is one rank; expected 2 or more, 4 for the whole table\n");
    MPI_Abort(MPI_COMM_WORLD, 2);
  }

  Model model;
  model.latency = one_way(8);
  constexpr int many = 4 << 20;
  model.bytes_per_second = many / (one_way(many) - model.latency);
  model.merge = merge_of_a_record();
  const double narrow = local_norm(64, 64) / 64, wide = local_norm(64, 4096) / 64;
  model.of_channel = (wide - narrow) / (4096 - 64);
  model.of_token = narrow - 64 * model.of_channel;

  if (rank == 0) {
    std::printf(
        "between two ranks: %.2f us, %.1f GB/s; to merge a record %.1f ns; a token %.1f ns "
        "and %.3f ns for each channel\n\n",
        1e6 * model.latency, 1e-9 * model.bytes_per_second, 1e9 * model.merge, 1e9 * model.of_token,
        1e9 * model.of_channel);
    std::printf("%6s %7s %14s %12s %12s %8s\n", "ranks", "tokens", "channels here", "measured",
                "model", "model/");
  }
  for (const int some : {1, 2, 4}) {
    if (some > ranks) continue;
    for (const Index tokens : {1, 64, 1024}) {
      constexpr Index here = 1024;
      const double measured = norm_on(some, tokens, here);
      const double expected =
          model.sharded(some, static_cast<double>(tokens), static_cast<double>(some * here));
      if (rank == 0) {
        std::printf("%6d %7ld %14ld %9.1f us %9.1f us %8.2f\n", some, static_cast<long>(tokens),
                    static_cast<long>(here), 1e6 * measured, 1e6 * expected, expected / measured);
      }
    }
  }
  if (latency > 0) model.latency = 1e-6 * latency;
  if (bandwidth > 0) model.bytes_per_second = 1e9 * bandwidth;
  if (rank == 0) {
    for (const Index tokens : {1, 2048}) print_plan(model, tokens);
  }
  MPI_Finalize();
}
