// SPDX-License-Identifier: MIT
/// A language model around tokennorm. Read it in this order:
///
///     model.hpp           Llama: a stack of Pre-LN blocks, which is tokennorm's
///     attention.hpp       grouped-query attention, rotary positions, KV cache
///     feed_forward.hpp    SwiGLU
///     session.hpp         what a text has of its own: position, keys and values
///     generate.hpp        the prompt at once, then token after token
///     safetensors.hpp     a model under the names of Meta or Hugging Face
///     ../common/          llama2c.hpp, tokenizer.hpp, sampling.hpp, rotary.hpp, …
///
///     run_llama --checkpoint stories260K.bin --tokenizer tok512.bin --prompt "Once upon a time"
///     run_llama … --prompt "Once upon a time" --prompt "Lily and Tom" --threads 2
#include "common/command_line.hpp"
#include "common/progress_line.hpp"
#include "common/sampling.hpp"
#include "generate.hpp"
#include "safetensors.hpp"

#include <algorithm>
#include <mutex>
#include <random>

namespace {

using namespace llama;

struct Options {
  std::filesystem::path checkpoint, config, tokenizer;
  std::vector<std::string> prompts{""};
  Index steps = 256, sessions = 0, threads = 1;
  double temperature = 1, top_p = 0.9;
  unsigned long seed = 1;
};

int parse_options(int argc, char** argv, Options& options) {
  CLI::App app{"Goes on with a text. The model's norms and residual connections are tokennorm's."};
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  const auto number = [&](const char* name, auto& value, const char* words, const auto& check) {
    app.add_option(name, value, words)->check(check)->capture_default_str();
  };
  const auto up_to = [](long long largest) { return examples::whole_number(1, largest); };
  app.add_option("--checkpoint", options.checkpoint, "llama2.c's .bin, or safetensors")->required();
  app.add_option("--config", options.config, "of safetensors (default: config.json beside it)");
  app.add_option("--tokenizer", options.tokenizer, "llama2.c's tokenizer .bin")->required();
  app.add_option("--prompt", options.prompts, "how a text begins; one for each text")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  app.add_option("--sessions", options.sessions, "texts, if more than prompts")->check(up_to(1024));
  number("--steps", options.steps, "tokens of a text, with its prompt", up_to(1 << 20));
  number("--temperature", options.temperature, "0: the likeliest", examples::zero_or_more());
  number("--top-p", options.top_p, "draw from tokens of so much probability",
         examples::zero_or_more() & CLI::Range(0., 1.));
  number("--seed", options.seed, "of what is drawn", examples::whole_number(0, 4'294'967'295));
  number("--threads", options.threads, "threads", up_to(1024));
  const int exit_code = examples::parse(app, "run_llama", argc, argv, [] {});
  options.sessions = std::max(options.sessions, static_cast<Index>(options.prompts.size()));
  return exit_code;
}

void print(const char* what, const Speed& speed, Index at_once) {
  std::fprintf(stderr, "%-9s %ld tokens, %.0f tokens/s\n", what, speed.tokens,
               static_cast<double>(at_once) * speed.tokens_per_second());
}

/// A text alone is worked on by all threads, and shown as it grows; of several each by one thread.
void write(const Options& options, const Llama& model, const Tokenizer& tokenizer,
           std::vector<std::vector<int>>& prompts) {
  Eigen::ThreadPool pool(static_cast<int>(options.threads)), single(1);
  const auto threads = tokennorm::thread_pool(pool), one = tokennorm::thread_pool(single);
  const bool alone = prompts.size() == 1, is_seen = examples::is_terminal(stdout);
  const bool progress = !alone || (!is_seen && examples::is_terminal(stderr));
  const long all = options.steps * options.sessions;
  std::vector<std::string> texts(prompts.size());
  std::mutex mutex;  // of what follows
  examples::ProgressLine line;
  long done = 0;
  const auto words = [&] { return std::to_string(done) + " tokens"; };
  Speeds total;
  const auto write_text = [&](std::size_t i) {
    std::mt19937_64 rng(options.seed + i);
    const auto sample = [&](const auto& logits) {
      return examples::sample(logits.transpose(), options.temperature, options.top_p, rng);
    };
    const auto show = [&](int previous, int id) {
      texts[i] += tokenizer.decode(previous, id);
      if (alone) std::printf("%s", tokenizer.decode(previous, id).c_str());
      std::fflush(stdout);
      const std::lock_guard lock(mutex);
      if (progress) line.show(++done, all, words);
    };
    const auto speeds =
        generate(model, prompts[i], options.steps, alone ? threads : one, sample, show);
    const std::lock_guard lock(mutex);
    total.prefill += speeds.prefill;
    total.decoding += speeds.decoding;
  };
  threads.parallel_for(options.sessions, 1, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) write_text(static_cast<std::size_t>(i));
  });
  if (progress) line.show(all, all, words);
  for (const std::string& text : texts) std::puts(alone ? "" : (text + "\n").c_str());
  std::fflush(stdout);
  const Index at_once = alone ? 1 : std::min(options.threads, options.sessions);
  print("prefill", total.prefill, at_once);
  print("decoding", total.decoding, at_once);
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (const int exit_code = parse_options(argc, argv, options); exit_code >= 0) return exit_code;
  try {
    if (options.config.empty()) options.config = options.checkpoint.parent_path() / "config.json";
    const Llama model = options.checkpoint.extension() == ".bin"
                            ? examples::read_llama2c<Llama>(options.checkpoint)
                            : read_safetensors(options.checkpoint, options.config);
    const auto tokenizer = Tokenizer::read(options.tokenizer, model.config().vocabulary);
    options.steps = std::min(options.steps, model.config().context);
    std::vector<std::vector<int>> prompts;
    for (std::size_t i = 0; i < static_cast<std::size_t>(options.sessions); ++i) {
      prompts.push_back(tokenizer.encode(options.prompts[i % options.prompts.size()]));
      if (const auto size = static_cast<Index>(prompts.back().size()); size > options.steps) {
        throw std::runtime_error("--prompt has " + std::to_string(size) + " tokens; expected at " +
                                 "most the " + std::to_string(options.steps) +
                                 " of --steps and of the model's context");
      }
    }
    write(options, model, tokenizer, prompts);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "run_llama: %s\n", error.what());
    return 2;
  }
  return 0;
}
