// SPDX-License-Identifier: MIT
/// The index of a sharded checkpoint, model.safetensors.index.json: JSON text in, the shard of each
/// tensor out. Files are not touched here.
///
/// Throws   std::runtime_error that names the file, the tensor and the fault
#pragma once

#include "tokennorm/checkpoint/errors.hpp"
#include "tokennorm/checkpoint/json_events.hpp"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace tokennorm::detail {

/// Collects weight_map; whatever else the index has, however deep, is passed over.
class ShardIndexReader final : public JsonEvents {
 public:
  explicit ShardIndexReader(const std::string& file) : JsonEvents(file, "the index") {}

  std::map<std::string, std::string> shards;
  bool has_map = false;

 private:
  void open(char bracket) override {
    if (depth_ == 1 && member_ == "weight_map") {
      if (bracket != '{') unexpected("an array");
      in_map_ = true;
    } else if (in_map_) {
      unexpected(bracket == '{' ? "an object" : "an array");
    }
    ++depth_;
  }
  void close() override {
    --depth_;
    if (depth_ == 1) in_map_ = false;
  }
  void take_key(std::string& name) override {
    if (depth_ == 1 && name == "weight_map") {
      if (has_map) fail_file(file_, "weight_map stands there twice; expected once");
      has_map = true;
    }
    if (in_map_ && shards.contains(name)) {
      fail_tensor(file_, name, "stands there twice; expected once");
    }
    if (in_map_ || depth_ == 1) member_ = std::move(name);
  }
  void take(std::string& text) override {
    if (!in_map_) return unexpected(in_quotes(text));
    // A shard stands beside the index: a path would lead a reader out of the checkpoint's folder.
    if (text.empty() || text == "." || text == ".." ||
        text.find_first_of(std::string_view("/\\:\0", 4)) != text.npos) {
      fail_tensor(
          file_, member_,
          "its shard is " + in_quotes(text) + "; expected the name of a file in this folder");
    }
    shards.emplace(member_, std::move(text));
  }
  void number(std::uint64_t value) override { unexpected(std::to_string(value)); }
  void unexpected(const std::string& found) override {
    if (in_map_) fail_tensor(file_, member_, "its shard is " + found + "; expected a string");
    if (depth_ == 1 && member_ == "weight_map") {
      fail_file(file_, "weight_map is " + found + "; expected an object");
    }
  }

  std::size_t depth_ = 0;
  bool in_map_ = false;
  std::string member_;
};

/// The weight map: tensor → shard.
inline std::map<std::string, std::string> parse_shard_index(const std::string& file,
                                                            std::string_view text) {
  ShardIndexReader reader(file);
  reader.read(text);
  if (!reader.has_map) fail_file(file, "the index has no weight_map");
  return std::move(reader.shards);
}

}  // namespace tokennorm::detail
