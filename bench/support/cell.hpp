// SPDX-License-Identifier: MIT
/// A cell of the table is one operation at one shape and scalar type. Each of its contestants (the
/// library, the floors, the peers) is a benchmark of its own, "operation/dtype/TxC/contestant", so
/// that Google Benchmark interleaves them; main.cpp runs one cell after the other, and report/ puts
/// the contestants side by side again.
///
/// A case is what a cell is measured on: constructed from the shape anew for each repetition, with
///
///     tokennorm()                  the library
///     floor(), floor_streaming()   the floors: the faster counts; the second where there is one
///     floor_memcpy()               replaces floor() for large outputs, where there is one
///     bytes()                      what has to come from and go to memory at least
///     target(shape)                what is asked of the library
///     operands()                   what the peers are given, for an operation that they know
///     one_thread()                 the library on one thread, where the others run on several;
///                                  their time is that on the wall, with `wall_clock`
#pragma once

#include "peers/peers.hpp"
#include "support/shape.hpp"

#include <Eigen/Core>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <iostream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm::bench {

template <class Scalar>
constexpr const char* dtype_name() {
  if constexpr (std::is_same_v<Scalar, float>) {
    return "float";
  } else if constexpr (std::is_same_v<Scalar, double>) {
    return "double";
  } else if constexpr (std::is_same_v<Scalar, Eigen::half>) {
    return "half";
  } else {
    return "bfloat16";
  }
}

/// The benchmarks there are. Random interleaving shuffles what is reported; the table is in this
/// order.
inline std::vector<std::string> registered_names;

/// `contestant(data)` gives the callable that is timed.
template <class Case, class Contestant>
void add_contestant(const std::string& cell, Shape shape, const std::string& name,
                    const Contestant& contestant) {
  registered_names.push_back(cell + "/" + name);
  const std::size_t order = registered_names.size();
  auto* registered = benchmark::RegisterBenchmark(
      registered_names.back().c_str(), [shape, contestant, order](benchmark::State& state) {
        Case data(shape);
        auto call = contestant(data);
        call();
        for (auto _ : state) {
          call();
          benchmark::ClobberMemory();
        }
        state.counters["order"] = static_cast<double>(order);
        state.counters["bytes"] = static_cast<double>(data.bytes());
        // Not where they are 0: Google Benchmark would write their variation as NaN.
        const auto count = [&state](const char* counter, double value) {
          if (value != 0) state.counters[counter] = value;
        };
        const Target target = Case::target(shape);
        count("target_ratio", target.ratio);
        count("target_extra_nanoseconds", target.extra_nanoseconds);
        count("target_speedup", target.speedup);
      });
  if constexpr (requires { Case::wall_clock; }) registered->UseRealTime();
}

/// What an operation writes: y, or the dx in its place; the sum; the gradients of the parameters.
template <class Case>
auto results(Case& data) {
  std::vector<Eigen::ArrayXXf> all{data.y.view().template cast<float>()};
  if constexpr (requires { data.sum; }) all.push_back(data.sum.view());
  if constexpr (requires { data.gradients; }) {
    all.push_back(data.gradients.scale);
    all.push_back(data.gradients.shift);
  }
  return all;
}

/// Whether a peer has just written, once, what the library writes, roughly: a comparison of times
/// is one of the same work.
template <class Case>
bool same_results(Case& data) {
  const auto theirs = results(data);
  if constexpr (requires { data.gradients; }) {  // which the library adds to
    data.gradients.scale.setZero();
    data.gradients.shift.setZero();
  }
  data.tokennorm();
  const auto ours = results(data);
  const float tolerance = sizeof(typename Case::Scalar) == 2 ? 0.1f : 1e-3f;
  return std::equal(ours.begin(), ours.end(), theirs.begin(), [=](const auto& a, const auto& b) {
    return a.size() == 0 || ((a - b).abs() <= tolerance * a.abs().maxCoeff()).all();
  });
}

template <class Case>
void add_peers(const std::string& cell, Shape shape) {
  for (const Peer* peer : peers) {
    const char* name = peer->name(Case::operation, Case::dtype);
    if (name == nullptr) continue;
    add_contestant<Case>(cell, shape, name, [=](Case& data) {
      auto prepared = peer->prepare(data.operands());
      prepared->call();
      if (shape.size() < 1 << 20 && !same_results(data)) {
        std::cerr << cell << ": " << name << " has another result than tokennorm\n";
        std::abort();
      }
      return [prepared = std::move(prepared)] { prepared->call(); };
    });
  }
}

template <class Case>
void add_cell(const std::string& operation, Shape shape) {
  using Scalar = typename Case::Scalar;
  const std::string cell = operation + "/" + dtype_name<Scalar>() + "/" + shape.text();
  add_contestant<Case>(cell, shape, "tokennorm",
                       [](Case& data) { return [&data] { data.tokennorm(); }; });
  constexpr bool has_memcpy = requires(Case & data) { data.floor_memcpy(); };
  constexpr bool has_streaming = requires(Case & data) { data.floor_streaming(); };
  const bool large = has_large_output<Scalar>(shape);
  if (!(large && has_memcpy)) {
    add_contestant<Case>(cell, shape, "floor",
                         [](Case& data) { return [&data] { data.floor(); }; });
  }
  if constexpr (has_memcpy) {
    if (large) {
      add_contestant<Case>(cell, shape, "floor_memcpy",
                           [](Case& data) { return [&data] { data.floor_memcpy(); }; });
    }
  }
  if constexpr (has_streaming) {
    if (large) {
      add_contestant<Case>(cell, shape, "floor_streaming",
                           [](Case& data) { return [&data] { data.floor_streaming(); }; });
    }
  }
  if constexpr (requires(Case & data) { data.one_thread(); }) {
    add_contestant<Case>(cell, shape, "one_thread",
                         [](Case& data) { return [&data] { data.one_thread(); }; });
  }
  if constexpr (requires(Case & data) { data.operands(); }) add_peers<Case>(cell, shape);
}

template <class Case>
void add_cells(const std::string& operation, const auto& shapes) {
  for (const Shape shape : shapes) add_cell<Case>(operation, shape);
}

}  // namespace tokennorm::bench
