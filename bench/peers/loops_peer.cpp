// SPDX-License-Identifier: MIT
// The plain loops of loops.cpp as a peer, once for each compiler.
#include "peers/peer.hpp"

using tokennorm::bench::Dtype;
using tokennorm::bench::Operands;
using tokennorm::bench::Operation;

extern "C" void TOKENNORM_BENCH_LOOPS(const Operands& operands);

namespace {

const char* name(Operation, Dtype dtype) {
  return dtype == Dtype::float32 ? TOKENNORM_BENCH_PEER_NAME : nullptr;
}

std::unique_ptr<tokennorm::bench::Prepared> prepare(const Operands& operands) {
  return tokennorm::bench::prepared([operands] { TOKENNORM_BENCH_LOOPS(operands); });
}

}  // namespace

extern "C" {
[[gnu::visibility("default")]] extern const tokennorm::bench::Peer TOKENNORM_BENCH_PEER;
const tokennorm::bench::Peer TOKENNORM_BENCH_PEER = {name, prepare};
}
