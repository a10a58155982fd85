// SPDX-License-Identifier: MIT
// A user's unit that makes the adapters' templates real. It is compiled and not run.
#include <tokennorm/adapters/eigen_tensor.hpp>
#include <tokennorm/adapters/thread_pool.hpp>
#ifdef _OPENMP
#include <tokennorm/adapters/openmp.hpp>
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
