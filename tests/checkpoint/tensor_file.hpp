// SPDX-License-Identifier: MIT
// A checkpoint in memory: what load_norm reads and save_norm writes, without a file format.
#pragma once

#include "../support/message_of.hpp"
#include <tokennorm/core/concepts.hpp>

#include <Eigen/Core>

#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace tokennorm::test {

class TensorFile {
 public:
  /// A tensor of this shape, its values first, first + 1, first + 2, …
  TensorFile& add(const std::string& name, std::vector<Index> shape, double first) {
    Index size = 1;
    for (const Index extent : shape) size *= extent;
    tensors_[name] = {std::move(shape), Eigen::VectorXd::LinSpaced(
                                            size, first, first + static_cast<double>(size - 1))};
    return *this;
  }
  template <class Scalar>
  void add(const std::string& name, const Eigen::Matrix<Scalar, Eigen::Dynamic, 1>& vector) {
    tensors_[name] = {{vector.size()}, vector.template cast<double>()};
  }
  void remove(const std::string& name) { tensors_.erase(name); }

  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors_) names.push_back(name);
    return names;
  }
  bool contains(const std::string& name) const { return tensors_.count(name) != 0; }
  std::vector<Index> shape(const std::string& name) const { return tensors_.at(name).shape; }
  template <class Scalar>
  TokenMatrix<Scalar> matrix(const std::string& name) const {
    if (name == unreadable) throw std::runtime_error(name + " cannot be read");
    return tensors_.at(name).values.transpose().template cast<Scalar>();
  }

  std::string unreadable;

 private:
  struct Tensor {
    std::vector<Index> shape;
    Eigen::VectorXd values;
  };
  std::map<std::string, Tensor> tensors_;
};

}  // namespace tokennorm::test
