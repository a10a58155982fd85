// SPDX-License-Identifier: MIT
/// What a peer is asked, in types that need nothing else: also for units that must not include a
/// line of any library.
#pragma once

#include <cstddef>

namespace tokennorm::bench {

enum class Operation {
  layer_norm,
  rms_norm,
  layer_norm_backward,
  rms_norm_backward,
  layer_norm_residual_add,
  rms_norm_residual_add,
  layer_norm_unstored_sum,
};

enum class Dtype { float32, float64, float16, bfloat16 };

/// The operands of one cell: tokens x channels, row-major, of the Dtype. Null where the operation
/// has none.
struct Operands {
  Operation operation;
  Dtype dtype;
  std::ptrdiff_t tokens, channels;
  double epsilon;
  void* x;       // the input; of a residual add, the residual
  void* update;  // of a residual add
  void* y;       // the result; of a backward, dx
  void* sum;     // of a residual add
  void* dy;      // of a backward
  void* scale;   // (channels), of the Dtype
  void* shift;
  float* mean;  // (tokens), for a backward
  float* rstd;
  float* scale_gradient;  // (channels); added to, or overwritten
  float* shift_gradient;
};

}  // namespace tokennorm::bench
