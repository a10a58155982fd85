// SPDX-License-Identifier: MIT
/// Gradients of tokens that are divided over the ranks of a communicator; see mpi.hpp.
#pragma once

#include "tokennorm/adapters/mpi_messages.hpp"
#include "tokennorm/core/reproducible_sum.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

namespace tokennorm {

namespace detail::mpi {

inline void check_numbers_of_gradients(MPI_Comm communicator, std::size_t floats,
                                       std::size_t doubles) {
  const auto number = static_cast<long long>(floats + doubles);
  long long most[] = {number, -number, static_cast<long long>(floats),
                      -static_cast<long long>(floats)};
  check("MPI_Allreduce",
        MPI_Allreduce(MPI_IN_PLACE, most, 4, MPI_LONG_LONG, MPI_MAX, communicator));
  if (most[0] != -most[1] || most[2] != -most[3]) {
    fail({"all_reduce_gradients"},
         {"the ranks have ", static_cast<Index>(-most[1]), " to ", static_cast<Index>(most[0]),
          " gradients, of them ", static_cast<Index>(-most[3]), " to ", static_cast<Index>(most[2]),
          " of float; expected as many on all"});
  }
}

template <class Value>
void all_reduce(MPI_Comm communicator, std::vector<Value>& values, MPI_Datatype type,
                MPI_Op operation) {
  constexpr std::size_t most = std::size_t{1} << 30;  // MPI counts in int
  for (std::size_t i = 0; i < values.size(); i += most) {
    const int count = static_cast<int>(std::min(most, values.size() - i));
    check("MPI_Allreduce",
          MPI_Allreduce(MPI_IN_PLACE, values.data() + i, count, type, operation, communicator));
  }
}

}  // namespace detail::mpi

/// The gradients of a norm, block or stack, of the tokens here, become those of the tokens of all
/// ranks: every gradient that visit_parameters visits, in one message for those of float and one
/// for those of double, and a short one before.
///
/// Results  the same bits on every rank, and in every run on as many ranks with the same tokens
/// Throws   std::invalid_argument, on all ranks, where they have different numbers of gradients;
///          std::runtime_error where MPI fails
template <class Module>
void all_reduce_gradients(Module& module, MPI_Comm communicator) {
  using namespace detail::mpi;
  const MPI_Comm own = own_communicator(communicator);
  std::tuple<std::vector<float>, std::vector<double>> gradients;
  const auto of = [&](const auto& gradient) -> auto& {
    using Scalar = detail::ScalarOf<decltype(gradient)>;
    static_assert(std::is_same_v<Scalar, float> || std::is_same_v<Scalar, double>,
                  "tokennorm: gradients that are summed over ranks are of float or double.");
    return std::get<std::vector<Scalar>>(gradients);
  };
  module.visit_parameters([&](const std::string&, auto&, auto& gradient) {
    auto& all = of(gradient);
    all.insert(all.end(), gradient.data(), gradient.data() + gradient.size());
  });
  auto& [floats, doubles] = gradients;
  check_numbers_of_gradients(own, floats.size(), doubles.size());
  all_reduce(own, floats, MPI_FLOAT, MPI_SUM);
  all_reduce(own, doubles, MPI_DOUBLE, MPI_SUM);
  std::size_t next_float = 0, next_double = 0;
  module.visit_parameters([&](const std::string&, auto&, auto& gradient) {
    auto& all = of(gradient);
    std::size_t& next = sizeof(all[0]) == sizeof(float) ? next_float : next_double;
    std::copy_n(all.data() + next, gradient.size(), gradient.data());
    next += static_cast<std::size_t>(gradient.size());
  });
}

/// The same of sums that do not depend on how tokens are divided among ranks: those of all ranks
/// are merged, and become the module's gradients. One message of 32 bytes for each gradient (40 in
/// double), and a short one before.
template <class Module, class Scalar>
void all_reduce_gradients(Module& module, MPI_Comm communicator, ReproducibleSum<Scalar>& sum) {
  using namespace detail::mpi;
  const MPI_Comm own = own_communicator(communicator);
  auto& sums = sum.sums();
  check_numbers_of_gradients(own, sums.size(), 0);
  const auto& merging = Operation<detail::SumOfDigits<Scalar>>::get();
  all_reduce(own, sums, merging.type, merging.op);
  sum.move_to(module);
}

}  // namespace tokennorm
