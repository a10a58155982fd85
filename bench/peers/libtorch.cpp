// SPDX-License-Identifier: MIT
// libtorch 1.13. at::layer_norm allocates its result, and its documented out variants copy it: so
// what is called are the kernels behind it, which write into what they are given and spare the
// dispatcher. It has no RMSNorm: one is composed of operations with out variants.
#include "peers/peer.hpp"

// The levels that libtorch was built for are in the signature of its dispatch.
#if defined(__x86_64__)
#define HAVE_AVX512_CPU_DEFINITION
#define HAVE_AVX2_CPU_DEFINITION
#endif
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/native/layer_norm.h>

namespace {

using tokennorm::bench::Dtype;
using tokennorm::bench::is_centred;
using tokennorm::bench::Operands;
using tokennorm::bench::Operation;

struct Tensors {
  explicit Tensors(const Operands& o)
      : operands(o),
        x(tokens(o.x)),
        update(tokens(o.update)),
        y(tokens(o.y)),
        sum(tokens(o.sum)),
        dy(tokens(o.dy)),
        scale(tensor(o.scale, {o.channels}, dtype())),
        shift(is_centred(o.operation) ? tensor(o.shift, {o.channels}, dtype()) : at::Tensor()),
        mean(tensor(o.mean, {o.tokens}, at::kFloat)),
        rstd(tensor(o.rstd, {o.tokens}, at::kFloat)),
        scale_gradient(tensor(o.scale_gradient, {o.channels}, at::kFloat)),
        shift_gradient(tensor(o.shift_gradient, {o.channels}, at::kFloat)),
        column(o.rstd == nullptr ? at::Tensor() : rstd.unsqueeze(1)),
        squares(at::empty({o.tokens, o.channels}, dtype())),
        gradient(o.dy == nullptr ? at::Tensor() : at::empty_like(squares)),
        factor(at::empty({o.tokens, 1}, dtype())) {}

  at::ScalarType dtype() const {
    return operands.dtype == Dtype::float32   ? at::kFloat
           : operands.dtype == Dtype::float64 ? at::kDouble
                                              : at::kBFloat16;
  }
  static at::Tensor tensor(void* data, at::IntArrayRef shape, at::ScalarType dtype) {
    return data == nullptr ? at::Tensor() : at::from_blob(data, shape, dtype);
  }
  at::Tensor tokens(void* data) const {
    return tensor(data, {operands.tokens, operands.channels}, dtype());
  }

  void layer_norm(const at::Tensor& from) {
    at::native::LayerNormKernel(at::kCPU, from, scale, shift, operands.tokens, operands.channels,
                                operands.epsilon, &y, nullptr, nullptr);
  }
  void rms_norm(const at::Tensor& from) {
    at::mul_out(squares, from, from);
    at::mean_out(factor, squares, 1, /*keepdim=*/true);
    factor.add_(operands.epsilon).rsqrt_();
    at::mul_out(y, from, factor);
    y.mul_(scale);
  }
  void rms_norm_backward() {
    at::mul_out(gradient, dy, scale);
    at::mul_out(squares, gradient, x);
    at::mean_out(factor, squares, 1, /*keepdim=*/true);
    factor.mul_(column).mul_(column);
    at::mul_out(squares, x, factor);
    at::sub_out(y, gradient, squares);
    y.mul_(column);
    at::mul_out(squares, dy, x);
    squares.mul_(column);
    at::sum_out(scale_gradient, squares, 0);
  }
  void layer_norm_backward() {
    at::native::LayerNormBackwardKernel(at::kCPU, dy, x, mean, rstd, scale, operands.tokens,
                                        operands.channels, &y, &scale_gradient, &shift_gradient);
  }

  Operands operands;
  at::Tensor x, update, y, sum, dy, scale, shift, mean, rstd, scale_gradient, shift_gradient;
  at::Tensor column, squares, gradient, factor;  // of a composed RMSNorm
};

void run(Tensors& tensors) {
  switch (tensors.operands.operation) {
    case Operation::layer_norm:
      return tensors.layer_norm(tensors.x);
    case Operation::layer_norm_backward:
      return tensors.layer_norm_backward();
    case Operation::layer_norm_residual_add:
      at::add_out(tensors.sum, tensors.x, tensors.update);
      return tensors.layer_norm(tensors.sum);
    case Operation::rms_norm:
      return tensors.rms_norm(tensors.x);
    case Operation::rms_norm_residual_add:
      at::add_out(tensors.sum, tensors.x, tensors.update);
      return tensors.rms_norm(tensors.sum);
    case Operation::rms_norm_backward:
      return tensors.rms_norm_backward();
    case Operation::layer_norm_unstored_sum:
      break;  // no cell of the table
  }
}

const char* name(Operation operation, Dtype dtype) {
  const bool is_backward =
      operation == Operation::layer_norm_backward || operation == Operation::rms_norm_backward;
  // Statistics and gradients are given as float, in others it wants its own.
  if (dtype == Dtype::float16 || (is_backward && dtype != Dtype::float32)) return nullptr;
  switch (operation) {
    case Operation::layer_norm:
    case Operation::layer_norm_backward:
      return "libtorch";
    case Operation::layer_norm_residual_add:
    case Operation::rms_norm:
    case Operation::rms_norm_backward:
    case Operation::rms_norm_residual_add:
      return "libtorch_composed";
    case Operation::layer_norm_unstored_sum:
      break;
  }
  return nullptr;
}

std::unique_ptr<tokennorm::bench::Prepared> prepare(const Operands& operands) {
  at::set_num_threads(1);
  return tokennorm::bench::prepared([tensors = Tensors(operands)]() mutable {
    const c10::InferenceMode no_gradients;
    run(tensors);
  });
}

}  // namespace

extern "C" {
[[gnu::visibility("default")]] extern const tokennorm::bench::Peer TOKENNORM_BENCH_PEER;
const tokennorm::bench::Peer TOKENNORM_BENCH_PEER = {name, prepare};
}
