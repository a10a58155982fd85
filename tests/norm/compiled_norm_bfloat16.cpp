// SPDX-License-Identifier: MIT
#include "compiled_calls.hpp"

namespace tokennorm::test {

template struct NormCalls<Case<LayerKind, Eigen::bfloat16>, Eigen::RowMajor>;
template struct NormCalls<Case<LayerKind, Eigen::bfloat16>, Eigen::ColMajor>;
template struct NormCalls<Case<RMSKind, Eigen::bfloat16>, Eigen::RowMajor>;
template struct NormCalls<Case<RMSKind, Eigen::bfloat16>, Eigen::ColMajor>;
template struct SumCalls<Case<LayerKind, Eigen::bfloat16>, Eigen::RowMajor>;
template struct SumCalls<Case<LayerKind, Eigen::bfloat16>, Eigen::ColMajor>;

}  // namespace tokennorm::test
