// SPDX-License-Identifier: MIT
#include "compiled_calls.hpp"

namespace tokennorm::test {

template struct NormCalls<Case<LayerKind, Eigen::half>, Eigen::RowMajor>;
template struct NormCalls<Case<LayerKind, Eigen::half>, Eigen::ColMajor>;
template struct NormCalls<Case<RMSKind, Eigen::half>, Eigen::RowMajor>;
template struct NormCalls<Case<RMSKind, Eigen::half>, Eigen::ColMajor>;
template struct SumCalls<Case<RMSKind, Eigen::half>, Eigen::RowMajor>;
template struct SumCalls<Case<RMSKind, Eigen::half>, Eigen::ColMajor>;

}  // namespace tokennorm::test
