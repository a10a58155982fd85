// SPDX-License-Identifier: MIT
/// What norms send over MPI: records that merge, one for each token, and with the first of them
/// what the ranks have to agree about. See mpi.hpp.
#pragma once

#include "tokennorm/core/checks.hpp"
#include "tokennorm/norm/partial_statistics.hpp"

#if !defined(OMPI_SKIP_MPICXX)
#define OMPI_SKIP_MPICXX 1  // the bindings for C++ of old
#endif
#if !defined(MPICH_SKIP_MPICXX)
#define MPICH_SKIP_MPICXX 1
#endif
#include <mpi.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

namespace tokennorm::detail::mpi {

/// "tokennorm: MPI_Allreduce: MPI_ERR_COMM: invalid communicator"
inline void check(const char* call, int code) {
  if (code == MPI_SUCCESS) [[likely]]
    return;
  char text[MPI_MAX_ERROR_STRING + 1] = "an error without a text";
  int length = 0;
  MPI_Error_string(code, text, &length);
  fail_with<std::runtime_error>({call}, {text});
}

/// A duplicate of the caller's communicator, whose messages meet no others and whose errors are
/// returned. There is one of each, which is freed with it.
inline MPI_Comm own_communicator(MPI_Comm of_caller) {
  if (of_caller == MPI_COMM_NULL) {
    fail({"MPI"}, {"the communicator is MPI_COMM_NULL; expected one with this rank in it"});
  }
  static const int key = [] {
    const auto free_own = [](MPI_Comm, int, void* own, void*) {
      auto* const communicator = static_cast<MPI_Comm*>(own);
      const int code = MPI_Comm_free(communicator);
      delete communicator;
      return code;
    };
    int made = MPI_KEYVAL_INVALID;
    check("MPI_Comm_create_keyval",
          MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, free_own, &made, nullptr));
    return made;
  }();
  void* kept = nullptr;
  int is_kept = 0;
  check("MPI_Comm_get_attr", MPI_Comm_get_attr(of_caller, key, &kept, &is_kept));
  if (is_kept != 0) return *static_cast<MPI_Comm*>(kept);
  MPI_Comm own = MPI_COMM_NULL;
  check("MPI_Comm_dup", MPI_Comm_dup(of_caller, &own));
  check("MPI_Comm_set_errhandler", MPI_Comm_set_errhandler(own, MPI_ERRORS_RETURN));
  check("MPI_Comm_set_attr", MPI_Comm_set_attr(of_caller, key, new MPI_Comm(own)));
  return own;
}

// ---- records: merge(left, right) makes `right` what the two are together ------------------------

template <class A>
struct MomentsRecord {
  static constexpr int call = sizeof(A);
  kernels::Moments<A> moments;
  Index count = 0;

  static void merge(const MomentsRecord& left, MomentsRecord& right) {
    kernels::Moments<A> both = left.moments;
    kernels::merge(both, left.count, right.moments, right.count);
    right = {both, left.count + right.count};
  }
};

template <class A>
struct SumsRecord {
  static constexpr int call = 16 + int{sizeof(A)};
  kernels::PreciseSum<A> g{}, gx{};

  static void merge(const SumsRecord& left, SumsRecord& right) {
    right = {left.g + right.g, left.gx + right.gx};
  }
};

template <class S>
void pack(const PartialStatistics<S>& partial, std::vector<MomentsRecord<S>>& records) {
  for (Index t = 0; t < partial.m2.size(); ++t)
    records.push_back({moments_of(partial, t), partial.count});
}
/// The records from `first` on.
template <class S>
void unpack(const std::vector<MomentsRecord<S>>& records, std::size_t first,
            PartialStatistics<S>& partial) {
  for (Index t = 0; t < partial.m2.size(); ++t) {
    const auto& record = records[first + static_cast<std::size_t>(t)];
    set_moments(partial, t, record.moments);
    partial.count = record.count;
  }
}
template <class S>
void pack(const PartialGradientSums<S>& sums, std::vector<SumsRecord<S>>& records) {
  for (Index t = 0; t < sums.g.size(); ++t) records.push_back({sums.g[t], sums.gx[t]});
}
template <class S>
void unpack(const std::vector<SumsRecord<S>>& records, std::size_t first,
            PartialGradientSums<S>& sums) {
  for (Index t = 0; t < sums.g.size(); ++t) {
    const auto& record = records[first + static_cast<std::size_t>(t)];
    sums.g[t] = record.g;
    sums.gx[t] = record.gx;
  }
}

/// What all ranks have to say alike, from the least to the most.
template <class T>
struct Span {
  T least{}, most{};
  Span() = default;
  explicit Span(T value) : least(value), most(value) {}
  bool is_one() const { return least == most; }
  void include(const Span& other) {
    least = std::min(least, other.least);
    most = std::max(most, other.most);
  }
};

/// A number for the options of all norms of a message: others have another one, as good as ever.
class OptionsNumber {
 public:
  void include(const auto& options) {
    for (const std::uint64_t bits :
         {std::bit_cast<std::uint64_t>(options.epsilon),
          std::bit_cast<std::uint64_t>(options.scale_offset),
          std::uint64_t{options.scale} + 2 * std::uint64_t{options.shift}}) {
      value_ = std::rotl((value_ ^ bits) * 0x9e3779b97f4a7c15, 31);
    }
  }
  std::int64_t value() const { return static_cast<std::int64_t>(value_); }

 private:
  std::uint64_t value_ = 1;
};

struct Agreement {
  Span<std::int64_t> call;  // what is merged, and for which kind of norm
  Span<std::int64_t> tokens;
  Span<double> epsilon;        // of the first norm, to be named where it differs
  Span<std::int64_t> options;  // an OptionsNumber
  std::int64_t refused_by = std::numeric_limits<std::int64_t>::max();  // the first rank that has

  void include(const Agreement& other) {
    call.include(other.call);
    tokens.include(other.tokens);
    epsilon.include(other.epsilon);
    options.include(other.options);
    refused_by = std::min(refused_by, other.refused_by);
  }
};

/// The first message, of one length on all ranks, whatever they have to send.
template <class Record>
struct FirstMessage {
  static constexpr std::size_t bytes = 1536;
  static constexpr std::size_t records_in_it = bytes / sizeof(Record);
  Agreement agreement;
  union {
    Record records[records_in_it];
    unsigned char room[bytes];
  };
  FirstMessage() : room{} {}

  static void merge(const FirstMessage& left, FirstMessage& right) {
    // Otherwise they are not records of one type.
    const bool is_same_call = left.agreement.call.is_one() && right.agreement.call.is_one() &&
                              left.agreement.call.least == right.agreement.call.least;
    right.agreement.include(left.agreement);
    for (std::size_t i = 0; is_same_call && i < records_in_it; ++i) {
      Record::merge(left.records[i], right.records[i]);
    }
  }
};

/// How MPI merges elements. Not as a commutative operation: their order is that of the ranks, so
/// that all get the same bits.
template <class Element>
struct Operation {
  MPI_Datatype type = MPI_DATATYPE_NULL;
  MPI_Op op = MPI_OP_NULL;

  static const Operation& get() {
    static const Operation made;
    return made;
  }

 private:
  Operation() {
    static_assert(std::is_trivially_copyable_v<Element>);
    check("MPI_Type_contiguous", MPI_Type_contiguous(sizeof(Element), MPI_BYTE, &type));
    check("MPI_Type_commit", MPI_Type_commit(&type));
    const auto merge = [](void* left, void* right, int* count, MPI_Datatype*) {
      for (int i = 0; i < *count; ++i)
        Element::merge(static_cast<const Element*>(left)[i], static_cast<Element*>(right)[i]);
    };
    check("MPI_Op_create", MPI_Op_create(merge, 0, &op));
  }
};

/// Whether messages are awaited at once, which takes MPI less time. A message of the one kind meets
/// none of the other.
enum class Waits { at_once, later };

/// Records on their way: those of all ranks merge to what each rank then has. Where there are more
/// than the first message takes, they follow when the ranks have agreed.
template <class Record>
class Exchange {
 public:
  Exchange(Who who, MPI_Comm communicator, Waits waits)
      : who_(who), communicator_(communicator), waits_(waits) {}
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  /// What is on its way is written to here.
  ~Exchange() { MPI_Wait(&request_, MPI_STATUS_IGNORE); }

  const std::vector<Record>& records() const { return records_; }

  /// What makes the records; where it throws, the other ranks are told, and fail too.
  void prepare(const auto& make) {
#if defined(__cpp_exceptions)
    try {
      make();
    } catch (...) {
      refuse();
      throw;
    }
#else
    make();
#endif
  }
  /// A norm of the message, whose records are `partial`'s.
  void add(const auto& norm, const auto& partial) {
    if (kinds_ == 1) first_.agreement.epsilon = Span(norm.options().epsilon);
    kinds_ = 2 * kinds_ + static_cast<std::int64_t>(norm.kind());
    options_.include(norm.options());
    pack(partial, records_);
  }
  void begin() {
    first_.agreement.call = Span<std::int64_t>(64 * kinds_ + Record::call);
    first_.agreement.tokens = Span(static_cast<std::int64_t>(records_.size()));
    first_.agreement.options = Span(options_.value());
    const std::size_t in_first = std::min(records_.size(), FirstMessage<Record>::records_in_it);
    std::copy_n(records_.begin(), in_first, first_.records);
    start(&first_, 1);
    if (records_.size() > in_first) {
      wait();
      check_agreement();
      start(records_.data() + in_first, records_.size() - in_first);
    }
  }
  void finish() {
    wait();
    check_agreement();
    const std::size_t in_first = std::min(records_.size(), FirstMessage<Record>::records_in_it);
    std::copy_n(first_.records, in_first, records_.begin());
  }

  /// For a rank that cannot go on. What MPI says of it would hide the reason.
  void refuse() noexcept {
    int rank = 0;
    MPI_Comm_rank(communicator_, &rank);
    first_.agreement.refused_by = rank;
    send(&first_, 1);
    MPI_Wait(&request_, MPI_STATUS_IGNORE);
  }

 private:
  template <class Element>
  void start(Element* elements, std::size_t count) {
    if (count > std::size_t{std::numeric_limits<int>::max()}) {
      fail(who_, {"there are ", static_cast<Index>(count), " tokens; expected fewer than 2^31"});
    }
    check(waits_ == Waits::at_once ? "MPI_Allreduce" : "MPI_Iallreduce", send(elements, count));
  }
  template <class Element>
  int send(Element* elements, std::size_t count) {
    const auto& merging = Operation<Element>::get();
    const auto number = static_cast<int>(count);
    return waits_ == Waits::at_once ? MPI_Allreduce(MPI_IN_PLACE, elements, number, merging.type,
                                                    merging.op, communicator_)
                                    : MPI_Iallreduce(MPI_IN_PLACE, elements, number, merging.type,
                                                     merging.op, communicator_, &request_);
  }
  void wait() { check("MPI_Wait", MPI_Wait(&request_, MPI_STATUS_IGNORE)); }

  /// The same on all ranks, and so they fail together.
  void check_agreement() const {
    const Agreement& all = first_.agreement;
    if (all.refused_by != Agreement().refused_by) {
      fail(who_, {"rank ", static_cast<Index>(all.refused_by), " has refused its operands"});
    }
    if (!all.call.is_one()) {
      fail(who_, {"the ranks make different calls: forward or backward, LayerNorm or RMSNorm, in "
                  "float or double; expected the same on all"});
    }
    if (!all.tokens.is_one()) {
      fail(who_, {"the ranks have ", static_cast<Index>(all.tokens.least), " to ",
                  static_cast<Index>(all.tokens.most), " tokens; expected as many on all"});
    }
    if (!all.epsilon.is_one()) {
      char least[32], most[32];
      std::snprintf(least, sizeof least, "%g", all.epsilon.least);
      std::snprintf(most, sizeof most, "%g", all.epsilon.most);
      fail(who_, {"the ranks have epsilons from ", static_cast<const char*>(least), " to ",
                  static_cast<const char*>(most), "; expected the same on all"});
    }
    if (!all.options.is_one()) {
      fail(who_, {"the ranks have norms of other options: epsilon, scale, shift or scale_offset; "
                  "expected the same on all"});
    }
  }

  Who who_;
  MPI_Comm communicator_;
  Waits waits_;
  MPI_Request request_ = MPI_REQUEST_NULL;
  std::int64_t kinds_ = 1;  // a 1, then a bit for each norm
  OptionsNumber options_;
  FirstMessage<Record> first_;
  std::vector<Record> records_;
};

}  // namespace tokennorm::detail::mpi
