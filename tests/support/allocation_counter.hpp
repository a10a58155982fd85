// SPDX-License-Identifier: MIT
// Counts every heap allocation of the process: operator new, Eigen's own calls of malloc, all.
//
// With glibc the functions of the malloc family are replaced, weakly, so that any number of units
// of one program may include this. Under a sanitizer, which owns malloc, its hook counts instead.
// Elsewhere allocations_are_counted is false; skip the test there.
//
//   const AllocationCounter counter;
//   norm(x, y);
//   EXPECT_EQ(counter.count(), 0u);
#pragma once

#include <Eigen/Core>  // first: Clang wants its declaration of posix_memalign before ours

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TOKENNORM_TEST_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define TOKENNORM_TEST_SANITIZER 1
#endif
#endif

#ifdef TOKENNORM_TEST_SANITIZER
#include <sanitizer/allocator_interface.h>
#endif

namespace tokennorm::test {

namespace detail {
inline std::atomic<std::size_t> allocations{0};
}

#ifdef TOKENNORM_TEST_SANITIZER
inline constexpr bool allocations_are_counted = true;
namespace detail {
inline void on_allocation(const volatile void*, std::size_t) { ++allocations; }
inline void on_release(const volatile void*) {}
inline const int hook = __sanitizer_install_malloc_and_free_hooks(on_allocation, on_release);
}  // namespace detail
#elif defined(__GLIBC__)
inline constexpr bool allocations_are_counted = true;
#else
inline constexpr bool allocations_are_counted = false;
#endif

/// Counts from its construction on.
class AllocationCounter {
 public:
  AllocationCounter() : before_(detail::allocations) {}
  std::size_t count() const { return detail::allocations - before_; }

 private:
  std::size_t before_;
};

}  // namespace tokennorm::test

#if defined(__GLIBC__) && !defined(TOKENNORM_TEST_SANITIZER)
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* pointer, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);

[[gnu::weak]] void* malloc(std::size_t size) noexcept {
  ++tokennorm::test::detail::allocations;
  return __libc_malloc(size);
}
[[gnu::weak]] void* calloc(std::size_t count, std::size_t size) noexcept {
  ++tokennorm::test::detail::allocations;
  return __libc_calloc(count, size);
}
[[gnu::weak]] void* realloc(void* pointer, std::size_t size) noexcept {
  ++tokennorm::test::detail::allocations;
  return __libc_realloc(pointer, size);
}
[[gnu::weak]] void* memalign(std::size_t alignment, std::size_t size) noexcept {
  ++tokennorm::test::detail::allocations;
  return __libc_memalign(alignment, size);
}
[[gnu::weak]] void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  ++tokennorm::test::detail::allocations;
  return __libc_memalign(alignment, size);
}
[[gnu::weak]] int posix_memalign(void** pointer, std::size_t alignment, std::size_t size) noexcept {
  ++tokennorm::test::detail::allocations;
  *pointer = __libc_memalign(alignment, size);
  return *pointer != nullptr ? 0 : ENOMEM;
}
}
#endif
