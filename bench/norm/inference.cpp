// SPDX-License-Identifier: MIT
// y = norm(x), in every form: with statistics, without parameters, with the channels in the type,
// column-major, in heads, by two threads.
#include "norm/norm_case.hpp"
#include "support/suites.hpp"
#include <tokennorm/adapters/thread_pool.hpp>
#include <tokennorm/norm/heads.hpp>

#include <vector>

namespace tokennorm::bench {
namespace {

template <class Norm, class Scalar>
struct Inference : NormCase<Norm, Scalar> {
  using NormCase<Norm, Scalar>::NormCase;
};

template <class Norm>
struct Inference<Norm, float> : NormCase<Norm, float> {
  static constexpr Operation operation = either<Norm>(Operation::layer_norm, Operation::rms_norm);
  static constexpr Dtype dtype = Dtype::float32;
  using NormCase<Norm, float>::NormCase;
  Operands operands() { return peer_operands(*this); }
};

/// The peers' parameters are bfloat16 too.
template <class Norm>
struct Inference<Norm, Eigen::bfloat16> : NormCase<Norm, Eigen::bfloat16> {
  static constexpr Operation operation = either<Norm>(Operation::layer_norm, Operation::rms_norm);
  static constexpr Dtype dtype = Dtype::bfloat16;

  explicit Inference(Shape s)
      : NormCase<Norm, Eigen::bfloat16>(s),
        scale(this->norm.scale().template cast<Eigen::bfloat16>()),
        shift(this->norm.shift().template cast<Eigen::bfloat16>()) {}
  Operands operands() {
    Operands operands = peer_operands(*this);
    operands.scale = scale.data();
    operands.shift = shift.data();
    return operands;
  }

  Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, 1> scale, shift;
};

template <class Norm>
struct Statistics : NormCase<Norm, float> {
  using NormCase<Norm, float>::NormCase;
  void tokennorm() { this->norm.normalize(this->x.const_view(), this->y.view(), stats); }

  TokenStatistics<float> stats;
};

template <class Norm>
struct ColumnMajor : NormCase<Norm, float> {
  explicit ColumnMajor(Shape s) : NormCase<Norm, float>(s) {}
  void tokennorm() { this->norm(this->x.column_major(), this->y.column_major()); }
  void floor() {
    const auto affine = this->affine();
    kernels::dispatch(floors::ColumnMajorNorm<float, float>{
        this->x.data(), this->y.data(), affine.scale, affine.shift, this->shape.tokens,
        this->shape.channels});
  }
  static Target target(Shape) { return {}; }
};

/// The heads of the queries in a buffer of queries, keys and values.
template <class Norm>
struct FusedHeads : NormCase<Norm, float> {
  static constexpr Index count = 32;
  explicit FusedHeads(Shape s)
      : NormCase<Norm, float>(s), qkv({s.tokens / count, 3 * count * s.channels}) {}
  void tokennorm() {
    const Index channels = this->shape.channels, width = count * channels;
    this->norm(heads(qkv.const_view().leftCols(width), channels),
               heads(tokens(this->y.data(), this->shape.tokens / count, width), channels));
  }
  static Target target(Shape) { return {}; }

  Buffer<float> qkv;
};

/// Beyond the caches, two threads are held to what they gain in a copy, which is in the floor.
template <class Norm>
struct TwoThreadsInference : NormCase<Norm, float> {
  static constexpr bool wall_clock = true;
  using NormCase<Norm, float>::NormCase;
  static const ThreadPoolExecutor& executor() {
    static Eigen::ThreadPool pool(2);
    static const ThreadPoolExecutor executor = thread_pool(pool);
    return executor;
  }
  void tokennorm() { this->norm(this->x.const_view(), this->y.view(), executor()); }
  void one_thread() { this->norm(this->x.const_view(), this->y.view()); }
  static Target target(Shape s) {
    if (has_large_output<float>(s)) return NormCase<Norm, float>::target(s);
    return {.speedup = 1.8};
  }
  void floor() { floors::run(this->floor_rows(), this->shape.tokens, executor()); }
  void floor_streaming() {
    floors::run<floors::Stores::streaming>(
        floors::Copy<float>{this->x.data(), this->y.data(), this->shape.channels},
        this->shape.tokens, executor());
  }
  void floor_memcpy() {
    executor().parallel_for(this->shape.tokens, 1, [this](Index begin, Index end) {
      const Index channels = this->shape.channels;
      std::memcpy(this->y.data() + begin * channels, this->x.data() + begin * channels,
                  static_cast<std::size_t>((end - begin) * channels) * sizeof(float));
    });
  }
};

template <template <class, int> class Norm, int channels>
void add_fixed_channels(const std::string& operation, const std::vector<Index>& token_counts) {
  for (const Index tokens : token_counts) {
    add_cell<NormCase<Norm<float, channels>, float>>(operation + "_fixed_channels",
                                                     {tokens, channels});
  }
}

template <template <class, int> class Norm>
void add_norm(const std::string& operation) {
  using Float = Norm<float, Eigen::Dynamic>;
  using Double = Norm<double, Eigen::Dynamic>;
  add_cells<Inference<Float, float>>(operation, all_shapes);
  add_cells<Inference<Float, Eigen::bfloat16>>(operation, all_shapes);
  add_cells<Inference<Float, Eigen::half>>(operation, few_shapes);
  add_cells<Inference<Double, double>>(operation, few_shapes);
  add_cells<Statistics<Float>>(operation + "_statistics", few_shapes);
  add_cells<NormCase<Float, float, Form::folded>>(operation + "_folded", few_shapes);
  add_fixed_channels<Norm, 64>(operation, {1, 16, 4096});
  add_fixed_channels<Norm, 256>(operation, {1, 128});
  add_fixed_channels<Norm, 768>(operation, {1, 128});
}

}  // namespace

void add_inference() {
  add_norm<LayerNorm>("layer_norm");
  add_norm<RMSNorm>("rms_norm");
  add_cells<ColumnMajor<LayerNorm<float>>>("layer_norm_column_major",
                                           std::vector<Shape>{{16, 64}, {333, 100}, {512, 768}});
  add_cells<FusedHeads<RMSNorm<float>>>(
      "rms_norm_heads", std::vector<Shape>{{32, 128}, {4 * 32, 128}, {64 * 32, 128}});
  add_cells<TwoThreadsInference<LayerNorm<float>>>(
      "layer_norm_2_threads", std::vector<Shape>{{1000, 1000}, {2048, 4096}, {16384, 1024}});
}

}  // namespace tokennorm::bench
