// SPDX-License-Identifier: MIT
#include "compiled_calls.hpp"

namespace tokennorm::test {

template struct NormCalls<Case<LayerKind, float>, Eigen::RowMajor>;
template struct NormCalls<Case<LayerKind, float>, Eigen::ColMajor>;
template struct NormCalls<Case<RMSKind, float>, Eigen::RowMajor>;
template struct NormCalls<Case<RMSKind, float>, Eigen::ColMajor>;
template struct SumCalls<Case<LayerKind, float>, Eigen::RowMajor>;
template struct SumCalls<Case<LayerKind, float>, Eigen::ColMajor>;

}  // namespace tokennorm::test
