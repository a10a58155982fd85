// SPDX-License-Identifier: MIT
/// The peers of this build.
#pragma once

#include "peers/peer.hpp"

extern "C" {
extern const tokennorm::bench::Peer tokennorm_bench_eigen_O3_native;
extern const tokennorm::bench::Peer tokennorm_bench_eigen_O2;
extern const tokennorm::bench::Peer tokennorm_bench_loops_gxx;
extern const tokennorm::bench::Peer tokennorm_bench_loops_clangxx;
extern const tokennorm::bench::Peer tokennorm_bench_onednn;
extern const tokennorm::bench::Peer tokennorm_bench_libtorch;
}

namespace tokennorm::bench {

inline constexpr const Peer* peers[] = {
    &tokennorm_bench_eigen_O3_native, &tokennorm_bench_eigen_O2,
#if defined(TOKENNORM_BENCH_LOOPS_GXX)
    &tokennorm_bench_loops_gxx,
#endif
#if defined(TOKENNORM_BENCH_LOOPS_CLANGXX)
    &tokennorm_bench_loops_clangxx,
#endif
#if defined(TOKENNORM_BENCH_ONEDNN)
    &tokennorm_bench_onednn,
#endif
#if defined(TOKENNORM_BENCH_LIBTORCH)
    &tokennorm_bench_libtorch,
#endif
};

}  // namespace tokennorm::bench
