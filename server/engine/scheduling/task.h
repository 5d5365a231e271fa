// A coroutine that the engine's worker runs: the code of a job, written in sequence, which is
// suspended at co_await while its model steps wait for their turn in a batch. Used by one thread.
//
//   Task<absl::Status> Read() {
//     LECTERN_CO_RETURN_IF_ERROR(co_await scheduler->Run(...));
//     co_return absl::OkStatus();
//   }
//
// A task begins when it is awaited, or by Start(), and must not be destroyed while it waits for
// something that will still resume it. Arguments by reference must outlive the task. No exception
// leaves a task: the process ends.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "base/status_macros.h"

// LECTERN_RETURN_IF_ERROR and LECTERN_ASSIGN_OR_RETURN for use inside a coroutine.
#define LECTERN_CO_RETURN_IF_ERROR(expr)                \
  do {                                                  \
    if (absl::Status status_ = (expr); !status_.ok()) { \
      co_return status_;                                \
    }                                                   \
  } while (false)

#define LECTERN_CO_ASSIGN_OR_RETURN(lhs, expr) \
  LECTERN_CO_ASSIGN_OR_RETURN_IMPL(LECTERN_CONCAT(status_or_, __LINE__), lhs, expr)
#define LECTERN_CO_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                                     \
  if (!tmp.ok()) co_return std::move(tmp).status();      \
  lhs = *std::move(tmp)

namespace lectern {

template <typename T>
class [[nodiscard]] Task {
 public:
  struct promise_type {
    Task get_return_object() {
      return Task(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_always initial_suspend() noexcept { return {}; }
    struct Final {
      bool await_ready() noexcept { return false; }
      std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> self) noexcept {
        const std::coroutine_handle<> next = self.promise().next;
        return next ? next : std::noop_coroutine();
      }
      void await_resume() noexcept {}
    };
    Final final_suspend() noexcept { return {}; }
    template <typename Value>
    void return_value(Value&& given) {
      value.emplace(std::forward<Value>(given));
    }
    void unhandled_exception() noexcept { std::terminate(); }

    std::coroutine_handle<> next;  // the coroutine that awaits this task
    std::optional<T> value;
  };

  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  // Awaiting runs the task to its end and gives its value.
  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> awaiting) noexcept {
    handle_.promise().next = awaiting;
    return handle_;
  }
  T await_resume() { return *std::move(handle_.promise().value); }

  // Begins a task that no coroutine awaits.
  void Start() { handle_.resume(); }
  bool done() const { return handle_.done(); }

 private:
  explicit Task(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  std::coroutine_handle<promise_type> handle_;
};

// The result of a task that has none: co_return Done{}.
struct Done {};

}  // namespace lectern
