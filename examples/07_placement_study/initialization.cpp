// SPDX-License-Identifier: MIT
// See initialization.hpp.
#include "initialization.hpp"

#include "character_model.hpp"
#include "gradient_norms.hpp"
#include "progress.hpp"
#include "theorem_model.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <tuple>

namespace study {

namespace {

enum class Kind { theorem, characters };

/// Of one network, or the means of several.
struct Measured {
  std::vector<double> last_matrix;  // ‖∂loss/∂W₂‖ of each block's feed-forward layer
  std::vector<double> whole_block;  // ‖gradient‖ of all of its parameters
  std::vector<double> mean_square;  // E h² = E‖h‖²/d: before the first block, and after each
  std::vector<double> before_the_norm;  // E (h + f(h))² of each block's feed-forward layer

  void add(const Measured& other, double share) {
    const auto add_to = [share](std::vector<double>& sum, const std::vector<double>& terms) {
      sum.resize(terms.size());
      for (std::size_t i = 0; i < terms.size(); ++i) sum[i] += share * terms[i];
    };
    add_to(last_matrix, other.last_matrix);
    add_to(whole_block, other.whole_block);
    add_to(mean_square, other.mean_square);
    add_to(before_the_norm, other.before_the_norm);
  }
};

using Key = std::tuple<Kind, Placement, Index>;  // L
using Results = std::map<Key, Measured>;

/// After a forward and a backward.
template <class Model>
Measured measure(Model& model, const Tokens& x, const gpt::Sequences& sequences) {
  Measured measured;
  const auto ends_with = [](const std::string& name, const std::string& end) {
    return name.size() > end.size() && name.substr(name.size() - end.size()) == end;
  };
  model.visit_parameters([&](const std::string& name, Matrix&, Matrix& gradient) {
    if (ends_with(name, ".feed_forward.output.weight")) {
      measured.last_matrix.push_back(static_cast<double>(gradient.norm()));
    }
  });
  for (const auto& [layer, norm] : gpt::gradient_norms(model)) {
    if (layer.substr(0, 7) == "blocks.") measured.whole_block.push_back(norm);
  }
  for (const auto& h : model.network().stream(x, sequences))
    measured.mean_square.push_back(mean_square(h));
  return measured;
}

Measured measure_theorem(Placement placement, Index layers, const Options& options,
                         unsigned long seed) {
  std::mt19937_64 rng(seed);
  TheoremModel model(placement, layers, options.channels, rng);
  std::uniform_int_distribution<int> target(0, TheoremModel::classes - 1);
  Measured mean;
  for (Index sequence = 0; sequence < options.batch; ++sequence) {
    const Tokens x = gpt::random_normal<float>(options.context, options.channels, 1, rng);
    model.zero_gradients();
    model.add_gradients(x, target(rng));
    Measured measured = measure(model, x, {1, options.context});
    measured.before_the_norm = model.mean_squares_of_sums();
    mean.add(measured, 1 / static_cast<double>(options.batch));
  }
  return mean;
}

Measured measure_characters(Placement placement, Index layers, const Options& options,
                            const gpt::Corpus& corpus, unsigned long seed) {
  std::mt19937_64 rng(seed);
  CharacterModel model(
      placement,
      {corpus.vocabulary.size(), options.context, layers, options.channels, options.heads}, rng);
  const auto excerpts = gpt::random_excerpts(corpus.training, options.batch, options.context, rng);
  model.add_gradients(excerpts);
  return measure(model, model.embedded(excerpts.inputs), model.sequences(excerpts.inputs));
}

std::vector<Index> depths(Index largest) {
  std::vector<Index> depths = {2, 4, 8, 12, 16, 24, 32, 48};
  while (!depths.empty() && depths.back() > largest) depths.pop_back();
  if (depths.empty() || depths.back() < largest) depths.push_back(largest);
  return depths;
}

Results measure_all(const Options& options, const gpt::Corpus& corpus) {
  struct Job {
    Key key;
    unsigned long seed;
    Measured measured;
  };
  std::vector<Job> jobs;
  Index blocks = 0;
  const auto of_depth = depths(options.largest_depth);
  for (auto depth = of_depth.rbegin(); depth != of_depth.rend(); ++depth) {  // long ones first
    for (const Kind kind : {Kind::theorem, Kind::characters}) {
      for (const Placement placement : placements) {
        for (Index repeat = 0; repeat < options.repeats; ++repeat) {
          jobs.push_back(
              {{kind, placement, *depth}, options.seed + static_cast<unsigned long>(repeat), {}});
          blocks += *depth;
        }
      }
    }
  }
  Progress progress("(a) initialization: blocks", blocks);
  side_by_side(jobs.size(), options.threads, [&](std::size_t i) {
    auto& [key, seed, measured] = jobs[i];
    const auto [kind, placement, layers] = key;
    measured = kind == Kind::theorem ? measure_theorem(placement, layers, options, seed)
                                     : measure_characters(placement, layers, options, corpus, seed);
    progress.advance(layers);
  });
  Results results;
  for (const auto& job : jobs) {
    results[job.key].add(job.measured, 1 / static_cast<double>(options.repeats));
  }
  return results;
}

/// The slope of ln y over ln x, by least squares.
double exponent(const std::vector<double>& x, const std::vector<double>& y) {
  const auto n = static_cast<double>(x.size());
  double mean_x = 0, mean_y = 0, covariance = 0, variance = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    mean_x += std::log(x[i]) / n;
    mean_y += std::log(y[i]) / n;
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    covariance += (std::log(x[i]) - mean_x) * (std::log(y[i]) - mean_y);
    variance += (std::log(x[i]) - mean_x) * (std::log(x[i]) - mean_x);
  }
  return covariance / variance;
}

/// Of the last feed-forward matrix's gradient, over L ≥ 8, or all L where those are fewer than two.
double last_matrix_exponent(const Results& results, const Options& options, Kind kind,
                            Placement placement) {
  std::vector<double> x, y;
  const auto all = depths(options.largest_depth);
  const bool deep =
      std::count_if(all.begin(), all.end(), [](Index depth) { return depth >= 8; }) > 1;
  for (const Index depth : all) {
    if (deep && depth < 8) continue;
    x.push_back(static_cast<double>(depth));
    y.push_back(results.at({kind, placement, depth}).last_matrix.back());
  }
  return x.size() < 2 ? 0 : exponent(x, y);
}

void write(const Results& results, const Options& options) {
  const Index deepest = options.largest_depth;
  for (const Kind kind : {Kind::theorem, Kind::characters}) {
    const std::string name = kind == Kind::theorem ? "theorem" : "characters";
    const auto row = [&](Index depth, const auto& value) {
      std::vector<double> values;
      for (const Placement placement : placements) {
        values.push_back(value(results.at({kind, placement, depth})));
      }
      return values;
    };
    Csv last(options.out / ("a_last_matrix_" + name + ".csv"), header_of_placements("blocks"));
    for (const Index depth : depths(deepest)) {
      last.row(depth, row(depth, [](const Measured& m) { return m.last_matrix.back(); }));
    }
    Csv exponents(options.out / ("a_exponents_" + name + ".csv"), {"placement", "exponent"});
    for (const Placement placement : placements) {
      exponents.row(std::string(name_of(placement)),
                    last_matrix_exponent(results, options, kind, placement));
    }
    Csv every(options.out / ("a_every_block_" + name + ".csv"), header_of_placements("block"));
    Csv matrices(options.out / ("a_every_matrix_" + name + ".csv"), header_of_placements("block"));
    for (std::size_t block = 0; block < static_cast<std::size_t>(deepest); ++block) {
      every.row(block + 1, row(deepest, [&](const Measured& m) { return m.whole_block[block]; }));
      matrices.row(block + 1,
                   row(deepest, [&](const Measured& m) { return m.last_matrix[block]; }));
    }
    Csv stream(options.out / ("a_stream_" + name + ".csv"), header_of_placements("block"));
    for (std::size_t block = 0; block <= static_cast<std::size_t>(deepest); ++block) {
      stream.row(block, row(deepest, [&](const Measured& m) { return m.mean_square[block]; }));
    }
  }
  Csv bounds(options.out / "a_stream_bounds.csv",
             {"block", "Pre-LN at least", "Pre-LN at most", "Post-LN before the norm"});
  const auto& post = results.at({Kind::theorem, Placement::post_ln, deepest}).before_the_norm;
  for (std::size_t block = 1; block <= static_cast<std::size_t>(deepest); ++block) {
    const auto l = static_cast<double>(block);
    bounds.row(block, 1 + l / 2, 1 + 3 * l / 2, post[block - 1]);
  }
}

/// The largest of some positive numbers over the smallest.
double spread(const std::vector<double>& numbers) {
  const auto [least, most] = std::minmax_element(numbers.begin(), numbers.end());
  return *most / *least;
}

std::vector<Claim> judge(const Results& results, const Options& options) {
  const auto deepest = static_cast<long>(options.largest_depth);
  const auto at = [&](Kind kind, Placement placement) -> const Measured& {
    return results.at({kind, placement, options.largest_depth});
  };
  std::vector<Claim> claims;
  for (const Kind kind : {Kind::theorem, Kind::characters}) {
    const std::string where =
        kind == Kind::theorem ? " (the theorem's network)" : " (character model: softmax, GELU)";
    const double pre = last_matrix_exponent(results, options, kind, Placement::pre_ln);
    claims.push_back({"a", "Pre-LN: gradient of the last W₂ falls as L^-½" + where,
                      "Xiong 2020, 2002.04745, theorem 1", "exponent -0.5 ± 0.1",
                      format("L^%.2f", pre), std::fabs(pre + 0.5) <= 0.1});
    const double post = last_matrix_exponent(results, options, kind, Placement::post_ln);
    claims.push_back({"a", "Post-LN: gradient of the last W₂ does not depend on L" + where,
                      "Xiong 2020, 2002.04745, theorem 1", "exponent 0 ± 0.1",
                      format("L^%.2f", post), std::fabs(post) <= 0.1});
    const auto& post_blocks = at(kind, Placement::post_ln).last_matrix;
    const double fade = post_blocks.back() / post_blocks.front();
    claims.push_back({"a", "Post-LN: gradients fade towards the input" + where,
                      "Xiong 2020, 2002.04745", "last block's W₂ at least 2 x the first's",
                      format("%.2f x at L = %ld", fade, deepest), fade >= 2});
    const double level = spread(at(kind, Placement::pre_ln).last_matrix);
    claims.push_back({"a", "Pre-LN: gradients are about as large in every block" + where,
                      "Xiong 2020, 2002.04745", "largest W₂ gradient at most 3 x the least",
                      format("%.2f x at L = %ld", level, deepest), level <= 3});
    const auto& deep_blocks = at(kind, Placement::deep_norm).last_matrix;
    const double deep = deep_blocks.back() / deep_blocks.front();
    claims.push_back({"a", "DeepNorm: a Post-LN whose gradients do not fade" + where,
                      "Wang 2022, 2203.00555", "last block's W₂ ½ to 2 x the first's",
                      format("%.2f x at L = %ld", deep, deepest), deep >= 0.5 && deep <= 2});
  }

  const auto& stream = at(Kind::theorem, Placement::pre_ln).mean_square;
  double lowest = 1e30, highest = -1e30;  // where between the bounds: 0 is on the lower one
  for (std::size_t l = 1; l < stream.size(); ++l) {
    const double place = (stream[l] - 1 - static_cast<double>(l) / 2) / static_cast<double>(l);
    lowest = std::min(lowest, place);
    highest = std::max(highest, place);
  }
  claims.push_back({"a", "Pre-LN: (1 + l/2)d ≤ E‖h‖² ≤ (1 + 3l/2)d after block l",
                    "Xiong 2020, 2002.04745, lemma 2",
                    "every block within the bounds, ± 2 % of their distance",
                    format("E‖h‖² = (1 + l/2 + c·l)d, c = %.2f to %.2f", lowest, highest),
                    lowest >= -0.02 && highest <= 1.02});
  double post_mean = 0;
  const auto& sums = at(Kind::theorem, Placement::post_ln).before_the_norm;
  for (const double square : sums) post_mean += square / static_cast<double>(sums.size());
  const auto [post_least, post_most] = std::minmax_element(sums.begin(), sums.end());
  claims.push_back(
      {"a", "Post-LN: E‖h + f(h)‖² = 3/2·d before each block's last norm",
       "Xiong 2020, 2002.04745, lemma 2", "the mean of all blocks 1.5 ± 0.05",
       format("%.3f d; block by block %.2f to %.2f", post_mean, *post_least, *post_most),
       std::fabs(post_mean - 1.5) <= 0.05});
  const auto& peri = at(Kind::theorem, Placement::peri_ln).mean_square;
  double off = 0;
  for (std::size_t l = 0; l < peri.size(); ++l) {
    const double line = 1 + 2 * static_cast<double>(l);
    off = std::max(off, std::fabs(peri[l] / line - 1));
  }
  claims.push_back({"a", "Peri-LN: the stream's variance grows in a straight line",
                    "Kim 2025, 2502.02732",
                    "1 + 2l (each update has variance 1) ± 10 % after every block",
                    format("off by %.1f %% at most", 100 * off), off <= 0.1});
  return claims;
}

void draw_all(const Results& results, const Options& options) {
  const auto of = [&](Kind kind, Placement placement) {
    return last_matrix_exponent(results, options, kind, placement);
  };
  const auto fade = [&](Kind kind, Placement placement) {
    const auto& blocks = results.at({kind, placement, options.largest_depth}).last_matrix;
    return blocks.back() / blocks.front();
  };
  draw(options.out, "a_last_matrix",
       format("Where a final norm divides by a stream that grows with depth (Pre-LN, Sandwich-LN, "
              "ResPostLN, Peri-LN), the gradient shrinks with it: Pre-LN's as L^%.2f and L^%.2f, "
              "theorem -0.5. Post-LN's stream is as long at any L: %.2f and %.2f, theorem 0. "
              "DeepNorm's falls because its weights shrink and its alpha grows with L.",
              of(Kind::theorem, Placement::pre_ln), of(Kind::characters, Placement::pre_ln),
              of(Kind::theorem, Placement::post_ln), of(Kind::characters, Placement::post_ln)));
  draw(
      options.out, "a_every_matrix",
      format("Last block over first: Post-LN %.2g and %.2g, as a norm divides by √(3/2) what its "
             "sublayer multiplies by nearly as much; Pre-LN %.2g and %.2g, as what a block adds to "
             "the gradient on its way back is divided by a stream that is short near the input; "
             "DeepNorm %.2g and %.2g, as its sublayers are nearly the identity.",
             fade(Kind::theorem, Placement::post_ln), fade(Kind::characters, Placement::post_ln),
             fade(Kind::theorem, Placement::pre_ln), fade(Kind::characters, Placement::pre_ln),
             fade(Kind::theorem, Placement::deep_norm),
             fade(Kind::characters, Placement::deep_norm)));
  draw(
      options.out, "a_stream",
      "A block of Pre-LN adds ½ by its feed-forward layer, and by its attention between 0 and 1: "
      "the more, the more alike the tokens have become. So it stays between the two bounds. With a "
      "norm on every update (Sandwich-LN, ResPostLN, Peri-LN) a block adds 2; Post-LN and DeepNorm "
      "norm the stream itself.");
}

}  // namespace

std::vector<Claim> study_initialization(const Options& options, const gpt::Corpus& corpus) {
  const Results results = measure_all(options, corpus);
  write(results, options);
  draw_all(results, options);
  return judge(results, options);
}

}  // namespace study
