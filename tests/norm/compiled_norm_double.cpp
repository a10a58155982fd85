// SPDX-License-Identifier: MIT
#include "compiled_calls.hpp"

namespace tokennorm::test {

template struct NormCalls<Case<LayerKind, double>, Eigen::RowMajor>;
template struct NormCalls<Case<LayerKind, double>, Eigen::ColMajor>;
template struct NormCalls<Case<RMSKind, double>, Eigen::RowMajor>;
template struct NormCalls<Case<RMSKind, double>, Eigen::ColMajor>;
template struct SumCalls<Case<RMSKind, double>, Eigen::RowMajor>;
template struct SumCalls<Case<RMSKind, double>, Eigen::ColMajor>;

}  // namespace tokennorm::test
