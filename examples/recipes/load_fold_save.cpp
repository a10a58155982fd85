// SPDX-License-Identifier: MIT
// A checkpoint's norm is loaded, folded into the linear map that reads it, and the map is saved: an
// engine that never multiplies by γ. The names are GPT-2's; load_norm finds weight/bias,
// gamma/beta, scale/shift and others, load_norms the norms of a whole Stack.
#include <tokennorm/checkpoint/safetensors.hpp>
#include <tokennorm/tokennorm.hpp>

#include <filesystem>
#include <iostream>
#include <string>

using tokennorm::AnyNorm, tokennorm::Safetensors, tokennorm::SafetensorsWriter;
using Tokens = tokennorm::TokenMatrix<float>;

int main() {
  const tokennorm::Family family = tokennorm::families::gpt2;
  const std::string norm_key = family.key(tokennorm::NormRole::attention, 0);  // h.0.ln_1
  const std::string map_key = "h.0.attn.c_attn.";
  const std::string model = "load_fold_save.safetensors", folded = "load_fold_save_2.safetensors";

  // A checkpoint, so that there is one, and what its model computes: (x̂∘γ + β)·W + b.
  AnyNorm<float> trained = tokennorm::make_norm<float>(family, 16);
  trained.scale().setRandom();
  trained.shift().setRandom();
  const Tokens x = Tokens::Random(5, 16), w = Tokens::Random(16, 48), b = Tokens::Random(1, 48);
  const Eigen::MatrixXd exact = trained(x).cast<double>() * w.cast<double>();
  const Eigen::MatrixXd expected = exact.rowwise() + b.row(0).cast<double>();
  SafetensorsWriter writer;
  save_norm(trained, writer, norm_key, tokennorm::Naming::weight_bias);
  writer.add(map_key + "weight", w);
  writer.add(map_key + "bias", b.row(0));
  writer.save(model);

  // Load, fold, save: b' = b + β·W, W' = diag(γ)·W.
  const Safetensors file = Safetensors::open(model);
  AnyNorm<float> norm = tokennorm::make_norm<float>(family, 16);
  load_norm(norm, file, norm_key);
  Tokens weight = file.matrix<float>(map_key + "weight");
  Eigen::RowVectorXf bias = file.matrix<float>(map_key + "bias");
  fold_norm(norm, tokennorm::InOut{weight, bias});  // x·W, as GPT-2; OutIn{W, b} for PyTorch's W·x
  SafetensorsWriter folded_writer;
  folded_writer.add(map_key + "weight", weight);
  folded_writer.add(map_key + "bias", bias);
  folded_writer.save(folded);

  // x̂·W' + b' from the new file; the norm that was folded has no parameters any more.
  const Safetensors saved = Safetensors::open(folded);
  const Tokens y = (norm(x) * saved.matrix<float>(map_key + "weight")).rowwise() +
                   saved.matrix<float>(map_key + "bias").row(0);
  std::filesystem::remove(model);
  std::filesystem::remove(folded);
  const double error = (y.cast<double>() - expected).norm() / expected.norm();
  std::cout << "the folded map and the model differ by " << error << " of the result\n";
  if (error < 1e-6 && norm.scale().size() == 0) return 0;
  std::cerr << "load_fold_save: what was loaded, folded and saved is not the model\n";
  return 1;
}
