// SPDX-License-Identifier: MIT
/// Everything but the adapters and the formats of files (safetensors, GGUF): norms, blocks, what
/// they stand on, and checkpoints.
#pragma once

// clang-format off
// First, what says why a call does not compile: a compiler shows by which headers it came there.
#include "tokennorm/core/operands.hpp"
#include "tokennorm/norm/norm.hpp"
#include "tokennorm/block/sublayer.hpp"
// clang-format on

#include "tokennorm/block/blocks.hpp"
#include "tokennorm/block/residual_connections.hpp"
#include "tokennorm/block/stack.hpp"
#include "tokennorm/checkpoint/center_weights.hpp"
#include "tokennorm/checkpoint/families.hpp"
#include "tokennorm/checkpoint/fold_norm.hpp"
#include "tokennorm/checkpoint/linear_map.hpp"
#include "tokennorm/checkpoint/make_norm.hpp"
#include "tokennorm/checkpoint/names.hpp"
#include "tokennorm/core/operands.hpp"
#include "tokennorm/core/reproducible_sum.hpp"
#include "tokennorm/core/tokens.hpp"
#include "tokennorm/norm/any_norm.hpp"
#include "tokennorm/norm/heads.hpp"
#include "tokennorm/norm/layer_norm.hpp"
#include "tokennorm/norm/partial_statistics.hpp"
#include "tokennorm/norm/rms_norm.hpp"
#include "tokennorm/version.hpp"
