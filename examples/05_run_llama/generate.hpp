// SPDX-License-Identifier: MIT
/// A text that goes on: the prompt is read at once, then each token costs one.
#pragma once

#include "common/speed.hpp"
#include "common/tokenizer.hpp"
#include "model.hpp"

#include <span>
#include <vector>

namespace llama {

using examples::Speed, examples::Tokenizer;

/// Of the prompt, read at once, and of the others, one by one.
struct Speeds {
  Speed prefill, decoding;
};

/// `ids`, the prompt, become the text: at most `steps` behind the first, each sample(logits), and
/// each, with those of the prompt, shown as show(previous, id).
Speeds generate(const Llama& model, std::vector<int>& ids, Index steps, const Threads& threads,
                auto&& sample, auto&& show) {
  Config config = model.config();
  config.context = steps;  // no more cache than that
  Session session(config);
  for (std::size_t i = 1; i < ids.size(); ++i) show(ids[i - 1], ids[i]);
  const examples::Stopwatch prefill;
  const Tokens* logits = &model(ids, session, threads);
  Speeds speeds{{static_cast<long>(ids.size()), prefill.seconds()}, {}};
  const examples::Stopwatch decoding;
  while (true) {
    const int next = sample(logits->row(0));
    if (next == Tokenizer::begin_of_text || next == Tokenizer::end_of_text) break;
    show(ids.back(), next);
    ids.push_back(next);
    if (session.position == steps) break;
    logits = &model(std::span(ids).last(1), session, threads);
    ++speeds.decoding.tokens;
  }
  speeds.decoding.seconds = decoding.seconds();
  return speeds;
}

}  // namespace llama
