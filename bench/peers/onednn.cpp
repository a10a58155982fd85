// SPDX-License-Identifier: MIT
// oneDNN 2.6: primitives and memory objects are made before the clock runs. It has no RMSNorm:
// one is composed of x², its mean with 1/√(mean + ε) behind it, and x·rstd·γ.
#include "peers/peer.hpp"

#include <dnnl.hpp>

#include <cmath>
#include <unordered_map>
#include <utility>
#include <vector>

// Debian's build runs on OpenMP, which need not be linked for one call.
extern "C" [[gnu::weak]] void omp_set_num_threads(int);

namespace {

using dnnl::memory;
using tokennorm::bench::Dtype;
using tokennorm::bench::Operands;
using tokennorm::bench::Operation;

dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

memory::desc matrix(memory::dim rows, memory::dim columns) {
  return {{rows, columns}, memory::data_type::f32, memory::format_tag::ab};
}
memory::desc vector(memory::dim size) {
  return {{size}, memory::data_type::f32, memory::format_tag::a};
}
memory at(const memory::desc& description, void* data) { return {description, engine(), data}; }

/// Primitives to run one after the other.
class Calls {
 public:
  void add(dnnl::primitive primitive, std::unordered_map<int, memory> arguments) {
    calls_.emplace_back(std::move(primitive), std::move(arguments));
  }
  void operator()() {
    for (const auto& [primitive, arguments] : calls_) primitive.execute(stream_, arguments);
    stream_.wait();
  }

 private:
  dnnl::stream stream_{engine()};
  std::vector<std::pair<dnnl::primitive, std::unordered_map<int, memory>>> calls_;
};

const auto affine = dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift;

void add_layer_norm(Calls& calls, const Operands& o, void* from) {
  const auto tokens = matrix(o.tokens, o.channels), parameters = vector(o.channels);
  using Norm = dnnl::layer_normalization_forward;
  calls.add(
      Norm({{dnnl::prop_kind::forward_inference, tokens, static_cast<float>(o.epsilon), affine},
            engine()}),
      {{DNNL_ARG_SRC, at(tokens, from)},
       {DNNL_ARG_SCALE, at(parameters, o.scale)},
       {DNNL_ARG_SHIFT, at(parameters, o.shift)},
       {DNNL_ARG_DST, at(tokens, o.y)}});
}

void add_layer_norm_backward(Calls& calls, const Operands& o) {
  const auto tokens = matrix(o.tokens, o.channels), parameters = vector(o.channels);
  const auto statistics = vector(o.tokens);
  const auto epsilon = static_cast<float>(o.epsilon);
  using Forward = dnnl::layer_normalization_forward;
  using Backward = dnnl::layer_normalization_backward;
  const Forward::primitive_desc forward(
      {dnnl::prop_kind::forward_training, tokens, statistics, epsilon, affine}, engine());
  memory variance(statistics, engine());
  auto* variances = static_cast<float*>(variance.get_data_handle());
  for (std::ptrdiff_t t = 0; t < o.tokens; ++t) {
    variances[t] = 1 / (o.rstd[t] * o.rstd[t]) - epsilon;
  }
  calls.add(Backward({{dnnl::prop_kind::backward, tokens, tokens, statistics, epsilon, affine},
                      engine(),
                      forward}),
            {{DNNL_ARG_SRC, at(tokens, o.x)},
             {DNNL_ARG_MEAN, at(statistics, o.mean)},
             {DNNL_ARG_VARIANCE, variance},
             {DNNL_ARG_DIFF_DST, at(tokens, o.dy)},
             {DNNL_ARG_SCALE, at(parameters, o.scale)},
             {DNNL_ARG_SHIFT, at(parameters, o.shift)},
             {DNNL_ARG_DIFF_SRC, at(tokens, o.y)},
             {DNNL_ARG_DIFF_SCALE, at(parameters, o.scale_gradient)},
             {DNNL_ARG_DIFF_SHIFT, at(parameters, o.shift_gradient)}});
}

void add_rms_norm(Calls& calls, const Operands& o, void* from) {
  const auto tokens = matrix(o.tokens, o.channels), parameters = matrix(1, o.channels);
  const auto statistics = matrix(o.tokens, 1);
  using dnnl::algorithm;
  const memory squares(tokens, engine()), rstd(statistics, engine());
  calls.add(dnnl::binary({{algorithm::binary_mul, tokens, tokens, tokens}, engine()}),
            {{DNNL_ARG_SRC_0, at(tokens, from)},
             {DNNL_ARG_SRC_1, at(tokens, from)},
             {DNNL_ARG_DST, squares}});

  dnnl::post_ops to_rstd;
  to_rstd.append_eltwise(1, algorithm::eltwise_linear, 1, static_cast<float>(o.epsilon));
  to_rstd.append_eltwise(1, algorithm::eltwise_pow, 1, -0.5f);
  dnnl::primitive_attr then_to_rstd;
  then_to_rstd.set_post_ops(to_rstd);
  calls.add(dnnl::reduction(
                {{algorithm::reduction_mean, tokens, statistics, 0, 0}, then_to_rstd, engine()}),
            {{DNNL_ARG_SRC, squares}, {DNNL_ARG_DST, rstd}});

  dnnl::post_ops times_scale;
  times_scale.append_binary(algorithm::binary_mul, parameters);
  dnnl::primitive_attr then_times_scale;
  then_times_scale.set_post_ops(times_scale);
  calls.add(dnnl::binary(
                {{algorithm::binary_mul, tokens, statistics, tokens}, then_times_scale, engine()}),
            {{DNNL_ARG_SRC_0, at(tokens, from)},
             {DNNL_ARG_SRC_1, rstd},
             {DNNL_ARG_DST, at(tokens, o.y)},
             {DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, at(parameters, o.scale)}});
}

void add_sum(Calls& calls, const Operands& o) {
  const auto tokens = matrix(o.tokens, o.channels);
  calls.add(dnnl::binary({{dnnl::algorithm::binary_add, tokens, tokens, tokens}, engine()}),
            {{DNNL_ARG_SRC_0, at(tokens, o.x)},
             {DNNL_ARG_SRC_1, at(tokens, o.update)},
             {DNNL_ARG_DST, at(tokens, o.sum)}});
}

const char* name(Operation operation, Dtype dtype) {
  if (dtype != Dtype::float32) return nullptr;
  switch (operation) {
    case Operation::layer_norm:
    case Operation::layer_norm_backward:
      return "onednn";
    case Operation::rms_norm:
    case Operation::layer_norm_residual_add:
    case Operation::rms_norm_residual_add:
      return "onednn_composed";
    case Operation::rms_norm_backward:
    case Operation::layer_norm_unstored_sum:
      return nullptr;
  }
  return nullptr;
}

std::unique_ptr<tokennorm::bench::Prepared> prepare(const Operands& operands) {
  if (omp_set_num_threads != nullptr) omp_set_num_threads(1);
  Calls calls;
  switch (operands.operation) {
    case Operation::layer_norm:
      add_layer_norm(calls, operands, operands.x);
      break;
    case Operation::layer_norm_backward:
      add_layer_norm_backward(calls, operands);
      break;
    case Operation::layer_norm_residual_add:
      add_sum(calls, operands);
      add_layer_norm(calls, operands, operands.sum);
      break;
    case Operation::rms_norm:
      add_rms_norm(calls, operands, operands.x);
      break;
    case Operation::rms_norm_residual_add:
      add_sum(calls, operands);
      add_rms_norm(calls, operands, operands.sum);
      break;
    case Operation::rms_norm_backward:
    case Operation::layer_norm_unstored_sum:
      return nullptr;
  }
  return tokennorm::bench::prepared(std::move(calls));
}

}  // namespace

extern "C" {
[[gnu::visibility("default")]] extern const tokennorm::bench::Peer TOKENNORM_BENCH_PEER;
const tokennorm::bench::Peer TOKENNORM_BENCH_PEER = {name, prepare};
}
