// SPDX-License-Identifier: MIT
/// Norms whose channels are divided over the ranks of an MPI communicator, and gradients of tokens
/// that are.
///
///     #include <tokennorm/adapters/mpi.hpp>
///
///     auto norm = sharded(LayerNorm<float>(384), MPI_COMM_WORLD);   // of 768 on two ranks
///     norm(x, y);                                        // a norm: also of a block or a stack
///     norm.normalize(x, y, statistics);                  // PartialStatistics, of all channels
///     norm.backpropagate(x, statistics, dy, dx, gradients);
///     norm.normalize_sum(residual, update, sum, y);
///
///     auto pending = begin(q_norm, q, k_norm, k);        // one message for both
///     …                                                  // while it is on its way
///     pending.finish(q, k);                              // the results; here in place
///
///     all_reduce_gradients(stack, MPI_COMM_WORLD);       // of tokens that are divided
///     all_reduce_gradients(stack, MPI_COMM_WORLD, sum);  // a ReproducibleSum: the same bits
///                                                        // whatever the number of ranks
///
/// Shapes     x, y (T, C), C the channels of this rank; T the same on all ranks
/// Error      that of the norm, whatever the division of the channels. A sum of gradients is that
///            of MPI_SUM
/// Results    statistics have the same bits on every rank, and in every run on as many ranks: they
///            are merged in the order of the ranks
/// Messages   of a norm one MPI_Allreduce of 1.6 kB, forward or backward, for all tokens together
///            (by `begin` MPI_Iallreduce); where there are more than 64 (backward 96; in double 27
///            and 48) a second one with 24 bytes for each of the others (16; 56 and 32). Of a
///            backward with TokenStatistics, which it takes again, one more
/// Threads    the caller's, one at a time, as MPI_THREAD_FUNNELED has it; in a block with such a
///            norm an executor's threads do not take part in the step around it
/// Throws     as the norms. On all ranks alike, std::invalid_argument where they disagree about the
///            number of tokens, the options or the call, or where one has refused the operands of a
///            norm or of a block that begins with it. (Where a sublayer comes first, as in Post-LN,
///            the other ranks may be waiting in that: they are not told of a refusal.)
///            std::runtime_error with MPI's text where MPI fails
/// Needs      the CMake target tokennorm::mpi; MPI 3, initialized
#pragma once

#include "tokennorm/adapters/mpi_gradients.hpp"
#include "tokennorm/adapters/mpi_pending.hpp"
#include "tokennorm/adapters/mpi_sharded.hpp"
