// SPDX-License-Identifier: MIT
// How published checkpoints name their norms: one line each in norm-names-in-the-wild.tsv, which is
// looked for in $TOKENNORM_MODELS or beside the source tree. Each line's norms are found, by a
// family or without one, or there is a reason why not.
#include "tensor_file.hpp"
#include <tokennorm/checkpoint/names.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace tokennorm::test {
namespace {

using Names = std::vector<std::string>;

std::filesystem::path models_folder() {
  const char* const given = std::getenv("TOKENNORM_MODELS");
  return given != nullptr ? given : TOKENNORM_MODELS;
}

struct Line {
  std::string model, names;
};

std::vector<Line> lines() {
  std::vector<Line> result;
  std::ifstream file(models_folder() / "norm-names-in-the-wild.tsv");
  std::string line;
  std::getline(file, line);  // the heading
  while (std::getline(file, line)) {
    const std::size_t model = line.find('\t'), placement = line.find('\t', model + 1);
    const std::size_t names = line.find('\t', placement + 1);
    result.push_back({line.substr(0, model), line.substr(placement + 1, names - placement - 1)});
  }
  return result;
}

/// What is between the parentheses is said of the names.
std::string without_remarks(std::string text) {
  for (std::size_t at; (at = text.find(" (")) != std::string::npos;) {
    text.erase(at, text.find(')', at) + 1 - at);
  }
  return text;
}

Names split(const std::string& text) {
  Names parts(1);
  int depth = 0;
  for (const char c : text) {
    depth += c == '{' ? 1 : c == '}' ? -1 : 0;
    if (depth == 0 && (c == ',' || c == ' ')) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  std::erase_if(parts, [](const std::string& part) {
    return part.empty() || part == "/" || part == "..." || part.front() == '[' ||
           std::isdigit(static_cast<unsigned char>(part.front())) != 0;
  });
  return parts;
}

void add_numbered(const std::string& name, TensorFile& file) {
  for (const std::string letter : {"N", "I", "J"}) {
    const std::size_t at = ("." + name).find("." + letter + ".");
    if (at == std::string::npos) continue;
    for (const char* number : {"0", "1"}) {
      add_numbered(std::string(name).replace(at, 1, number), file);
    }
    return;
  }
  file.add(name, {4}, 1);
}

/// "a.{b,c}.*" is a.b.weight, a.b.bias, a.c.weight, a.c.bias; N is the number of a layer.
void add_all(std::string name, TensorFile& file) {
  if (name.ends_with(".*")) {
    name.pop_back();
    add_all(name + "weight", file);
    return add_all(name + "bias", file);
  }
  const std::size_t open = name.find('{');
  if (open == std::string::npos) return add_numbered(name, file);
  const std::size_t close = name.find('}');
  const std::string choices = name.substr(open + 1, close - open - 1);
  for (std::size_t at = 0; at <= choices.size();) {
    const std::size_t end = std::min(choices.find(',', at), choices.size());
    const std::string choice = choices.substr(at, end - at);
    add_all(name.substr(0, open) + (choice == "..." ? "any" : choice) + name.substr(close + 1),
            file);
    at = end + 1;
  }
}

TensorFile file_of(const Line& line) {
  TensorFile file;
  std::string last;
  for (std::string name : split(without_remarks(line.names))) {
    if (name.starts_with(".../")) name.erase(0, 4);
    if (name.ends_with("/...")) name.resize(name.size() - 4);
    if (name.starts_with("...")) {  // as the last one up to its last number
      const std::size_t digit = last.find_last_of("0123456789");
      name = last.substr(0, digit + 2) + name.substr(3);
    }
    add_all(name, file);
    last = name;
  }
  return file;
}

struct Expected {
  std::string family;  // empty: none
  std::size_t of_family, without_family;
  bool is_whole = false;  // the line has all norms, so that the family is detected
};

const std::map<std::string, Expected> expected_of = {
    {"Llama (Meta names)", {"llama_meta", 5, 5, true}},
    {"Llama (HF names)", {"llama", 5, 5}},
    {"Gemma 3 multimodal", {"gemma2", 12, 12}},
    {"Qwen3.5 MoE", {"qwen3_next", 4, 4}},
    {"BLOOM", {"bloom", 4, 4}},
    {"Falcon 180B", {"falcon_two_norms", 4, 4}},
    {"GPT-2 / minGPT", {"gpt2", 5, 5, true}},
    {"ALBERT", {"albert", 3, 4, true}},
    {"RWKV 4/5/6/7", {"rwkv", 6, 8, true}},
    {"TinyTimeMixer", {"", 0, 10}},
    {"tensor2tensor (USE-lite)", {"", 0, 1}},
    {"PaddlePaddle export", {"", 0, 2}},
    {"PyTorch LayerNorm over two axes", {"", 0, 1}},
    {"Flax/JAX to ONNX", {"", 0, 0}}};  // its parameters are called Reshape_2 and Reshape_3

class NamesInTheWild : public ::testing::Test {
 protected:
  void SetUp() override {
    if (lines().empty()) {
      GTEST_SKIP() << "no norm-names-in-the-wild.tsv in " << models_folder()
                   << "; TOKENNORM_MODELS names its folder";
    }
  }
};

TEST_F(NamesInTheWild, AreFoundByAFamilyOrWithoutOne) {
  for (const Line& line : lines()) {
    SCOPED_TRACE(line.model + ": " + line.names);
    ASSERT_EQ(expected_of.count(line.model), 1U) << "what is expected of it?";
    const Expected& expected = expected_of.at(line.model);
    const TensorFile file = file_of(line);
    EXPECT_EQ(find_norms(file).size(), expected.without_family);
    if (!expected.family.empty()) {
      EXPECT_EQ(find_norms(file, find_family(expected.family)).size(), expected.of_family);
    }
    if (expected.is_whole) {
      EXPECT_EQ(detect_family(file.names()).name, expected.family);
    } else {
      const std::string message =
          message_of<std::runtime_error>([&] { detect_family(file.names()); });
      const auto says = [&](const char* words) { return message.find(words) != std::string::npos; };
      EXPECT_TRUE(says("but for ") || says("looked for the norms of ") ||
                  says("whose keys are the same"))
          << message;
    }
  }
}

}  // namespace
}  // namespace tokennorm::test
