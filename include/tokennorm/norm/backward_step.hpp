// SPDX-License-Identifier: MIT
/// The gradient of a residual step (norm/residual_step.hpp), from the last of its equations to the
/// first:
///
///     dh ← α·dh + Σⱼ (the gradient of dnⱼ through preⱼ)     α: that of the step that follows
///     dh ← the gradient of dh through out
///     duₖ = the gradient of sₖ∘dh through postₖ;  dsₖ is a sum over tokens, as dγ is
///
/// What is done of these is done over a chunk of tokens while its rows are in L2.
#pragma once

#include "tokennorm/norm/residual_step.hpp"

#include <array>
#include <type_traits>

namespace tokennorm::detail {

/// The vector of channels in s, and its gradient; with what starts their pass, which is compiled
/// where there are some.
template <class A, class U>
class LearnedFactors {
 public:
  using Pass = StepBackward<A, U, U, U, A>;

  LearnedFactors() = default;
  LearnedFactors(const A* value, A* gradient)
      : value_(value), gradient_(gradient), start_(&start_pass) {}

  explicit operator bool() const { return value_ != nullptr; }
  /// ds = Σ du∘posted, and s∘du. `ones` are as many as tokens.
  void start(Pass& pass, const typename Pass::Rows& rows, const A* ones,
             SavedNorm<A>& saved) const {
    start_(*this, pass, rows, ones, saved);
  }

 private:
  // An RMSNorm's backward that counts no channel, and whose rstd is 1.
  static void start_pass(const LearnedFactors& learned, Pass& pass, const typename Pass::Rows& rows,
                         const A* ones, SavedNorm<A>& saved) {
    constexpr Index none = -1;
    using Norm = std::conditional_t<NativeScalar<A>, kernels::NormArguments<false, A, const A>,
                                    kernels::generic::NormArguments<false, A, const A>>;
    pass.start(Norm{learned.value_, nullptr, 0, 0, none, nullptr, ones}, learned.gradient_,
               static_cast<A*>(nullptr), rows, &saved.kept);
  }

  const A* value_ = nullptr;  // null: none
  A* gradient_ = nullptr;
  void (*start_)(const LearnedFactors&, Pass&, const typename Pass::Rows&, const A*,
                 SavedNorm<A>&) = nullptr;
};

/// An update of the step, on its way back.
template <class S, class U, class Param>
struct UpdateGradient {
  using A = Accumulator<S, U>;
  kernels::Factors<A> factors;  // the learned ones left out
  LearnedFactors<A, U> learned;
  const A* ones = nullptr;        // for each token
  TokenView<const U> posted;      // what the learned factors multiply
  SavedNorm<A>* saved = nullptr;  // whose memory their sums take
  StepNormBackward<A, U, U, U, Param> post;
  TokenView<const U> given;  // what post was given
  TokenView<U> du;           // null: dh itself

  bool is_needed() const { return !std::is_same_v<S, U> || factors.are_given() || learned || post; }
};

/// The norms that read the stream after the step, and the gradients of what they gave.
template <class S, class U, class Param>
struct ReaderGradients {
  using A = Accumulator<S, U>;
  StepNormBackward<A, S, S, S, Param> last;
  TokenView<const S> dlast;
  std::array<StepNormBackward<A, S, U, S, Param>, 2> pre;
  std::array<TokenView<U>, 2> dn;
  int count = 0;              // of pre
  bool reads_stream = false;  // a sublayer without a norm: dn[0] is of the stream itself
  bool share_norm = false;    // two sublayers: dn[1] is of the first norm too

  /// Whether there is a dn of that number.
  bool reads(std::size_t j) const {
    return j == 0 ? count > 0 || reads_stream : count > 1 || share_norm;
  }
};

template <class S, class U, class Param>
struct BackwardStep {
  using A = Accumulator<S, U>;

  TokenView<const S> dh;  // null: zero
  double alpha = 1;       // of dh
  ReaderGradients<S, U, Param> readers;
  TokenView<const S> stream;  // what they were given
  StepNormBackward<A, S, S, S, Param> out;
  TokenView<const S> sum;  // what it was given
  TokenView<S> dsum;       // the new dh; it may be dh
  std::array<UpdateGradient<S, U, Param>, 2> updates;
  int update_count = 0;
};

/// A backward step with its passes, which are started when it is made and run by chunks.
template <class S, class U, class Param>
class BackwardStepRun {
  using Step = BackwardStep<S, U, Param>;
  using A = typename Step::A;

 public:
  explicit BackwardStepRun(const Step& step) : step_(step) {
    TokenView<const S> dh = step.dh;  // as it is after what was done
    double alpha = dh.data == nullptr ? 1 : step.alpha;
    const auto& readers = step.readers;
    const auto is_done = [&] {
      dh = as_const(step.dsum);
      alpha = 1;
      ++operations_;
    };
    TokenView<const S> addend{};
    if (readers.reads_stream && readers.dn[0].data != nullptr) {
      if constexpr (std::is_same_v<S, U> && NativeScalar<A>) {
        if (step.out && !step.out.is_divided() && alpha == 1 && dh.data != nullptr)
          addend = as_const(readers.dn[0]);
      }
      adds_ = addend.data == nullptr;
      if (adds_) is_done();
    }
    if (alpha != 1) {
      scales_ = true;
      is_done();
    }
    operations_ += readers.share_norm;
    if (readers.last) {
      readers.last.start(last_, {step.stream, readers.dlast, {}, dh, step.dsum});
      is_done();
    }
    for (std::size_t j = static_cast<std::size_t>(readers.count); j-- > 0;) {
      readers.pre[j].start(pre_[j], {step.stream, as_const(readers.dn[j]), {}, dh, step.dsum});
      is_done();
    }
    if (step.out) {
      step.out.start(out_, {step.sum, dh, addend, {}, step.dsum});
      is_done();
    }
    if (dh.data != step.dsum.data) {
      scales_ = true;  // by 1
      is_done();
    }
    for (std::size_t k = 0; k < static_cast<std::size_t>(step.update_count); ++k) {
      start(step.updates[k], learned_[k], post_[k]);
    }
  }

  /// Chunks [begin, end): one after the other, where there is more than one thing to do.
  void run(Index begin, Index end) const {
    if (operations_ < 2 || is_divided()) return run_chunks(begin, end);
    for (Index chunk = begin; chunk < end; ++chunk) run_chunks(chunk, chunk + 1);
  }
  void finish() {
    last_.finish();
    out_.finish();
    for (auto& pre : pre_) pre.finish();
    for (auto& learned : learned_) learned.finish();
    for (auto& post : post_) post.finish();
  }
  int operations() const { return operations_; }
  /// Whether a norm's channels are divided, so that all chunks are run at once.
  bool is_divided() const {
    bool is_any = step_.readers.last.is_divided() || step_.out.is_divided();
    for (const auto& pre : step_.readers.pre) is_any = is_any || pre.is_divided();
    for (const auto& update : step_.updates) is_any = is_any || update.post.is_divided();
    return is_any;
  }

 private:
  using Update = UpdateGradient<S, U, Param>;
  using OnUpdate = StepBackward<A, U, U, U, Param>;
  using Learned = typename LearnedFactors<A, U>::Pass;

  static bool is_multiplied(const Update& update) {
    return !std::is_same_v<S, U> || update.factors.are_given();
  }

  void start(const Update& update, Learned& learned, OnUpdate& post) {
    if (!update.is_needed()) return;
    TokenView<const U> du{};  // as it is after what was done
    if constexpr (std::is_same_v<S, U>) du = as_const(step_.dsum);
    if (is_multiplied(update)) {
      du = as_const(update.du);
      ++operations_;
    }
    if (update.learned) {
      update.learned.start(learned, {update.posted, du, {}, {}, update.du}, update.ones,
                           *update.saved);
      du = as_const(update.du);
      ++operations_;
    }
    if (update.post) {
      update.post.start(post, {update.given, du, {}, {}, update.du});
      ++operations_;
    }
  }

  void run_chunks(Index begin, Index end) const {
    const Index first = begin * kernels::tokens_per_chunk;
    const Index last = std::min(step_.dsum.tokens, end * kernels::tokens_per_chunk);
    const auto& dn = step_.readers.dn;
    if (adds_) add_rows<A>(step_.dh, step_.alpha, as_const(dn[0]), {}, step_.dsum, first, last);
    if (scales_) {
      add_rows<A, S>({}, 1, step_.dh, {A(step_.alpha)}, step_.dsum, first, last);
    }
    if (step_.readers.share_norm) {
      add_rows<A>(as_const(dn[0]), 1, as_const(dn[1]), {}, dn[0], first, last);
    }
    if (last_) last_.run(begin, end);
    for (std::size_t j = pre_.size(); j-- > 0;) {
      if (pre_[j]) pre_[j].run(begin, end);
    }
    if (out_) out_.run(begin, end);
    for (std::size_t k = 0; k < static_cast<std::size_t>(step_.update_count); ++k) {
      const Update& update = step_.updates[k];
      if (update.is_needed() && is_multiplied(update)) {
        add_rows<A, S>({}, 1, as_const(step_.dsum), update.factors, update.du, first, last);
      }
      if (learned_[k]) learned_[k].run(begin, end);
      if (post_[k]) post_[k].run(begin, end);
    }
  }

  const Step& step_;
  bool adds_ = false;    // dn to dh, in a sweep of its own
  bool scales_ = false;  // dh by α, or copies it
  int operations_ = 0;
  StepBackward<A, S, S, S, Param> last_, out_;
  std::array<StepBackward<A, S, U, S, Param>, 2> pre_;
  std::array<Learned, 2> learned_;
  std::array<OnUpdate, 2> post_;
};

template <class S, class U, class Param, class E>
void run_backward_step(const BackwardStep<S, U, Param>& step, E& executor) {
  BackwardStepRun<S, U, Param> run(step);
  if (run.operations() == 0) return;
  const auto run_chunks = [&](Index begin, Index end) { run.run(begin, end); };
  if (run.is_divided()) {
    run.run(0, kernels::chunk_count(step.dsum.tokens));
    return run.finish();
  }
  if constexpr (NativeScalar<typename BackwardStep<S, U, Param>::A>) {
    for_chunks(step.dsum.tokens, step.dsum.channels, executor, run_chunks);
  } else {
    for_chunks(step.dsum.tokens, step.dsum.channels, serial, run_chunks);  // one sum for all
  }
  run.finish();
}

}  // namespace tokennorm::detail
