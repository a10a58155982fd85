// SPDX-License-Identifier: MIT
// A user's unit that makes real the templates of what has a dependency. It is compiled and not run.
#include <tokennorm/adapters/eigen_tensor.hpp>
#include <tokennorm/adapters/thread_pool.hpp>
#ifdef _OPENMP
#include <tokennorm/adapters/openmp.hpp>
#endif
#if __has_include(<nlohmann/json.hpp>)
#include <tokennorm/checkpoint/safetensors.hpp>
#endif

#include <vector>

void use_adapters(Eigen::ThreadPool& pool, std::vector<float>& values);
void use_adapters(Eigen::ThreadPool& pool, std::vector<float>& values) {
  const auto count = static_cast<tokennorm::Index>(values.size());
  const auto f = [&](tokennorm::Index begin, tokennorm::Index end) {
    for (tokennorm::Index i = begin; i < end; ++i) values[static_cast<std::size_t>(i)] *= 2;
  };
  tokennorm::thread_pool(pool).parallel_for(count, 100, f);
#ifdef _OPENMP
  tokennorm::openmp.parallel_for(count, 100, f);
#endif
  const Eigen::TensorMap<Eigen::Tensor<float, 3, Eigen::RowMajor, int>> tensor(values.data(), 2, 3,
                                                                               4);
  tokennorm::tokens(tensor).setZero();
}

#if __has_include(<nlohmann/json.hpp>)
void use_safetensors(const tokennorm::Safetensors& file, tokennorm::SafetensorsWriter& writer);
void use_safetensors(const tokennorm::Safetensors& file, tokennorm::SafetensorsWriter& writer) {
  writer.add("double", file.matrix<double>("x"));
  writer.add("float", file.matrix<float>("x").row(0));
  writer.add("half", file.matrix<Eigen::half>("x").array());
  writer.add("bfloat16", file.matrix<Eigen::bfloat16>("x").transpose());
  writer.metadata("format", "pt");
  writer.save("x.safetensors");
}
#endif
