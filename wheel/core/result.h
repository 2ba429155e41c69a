// A value, or why there is none: one sentence and, where there is one, the repair.
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace clary::tool {

struct Error {
  std::string message;  // no trailing period; the offending thing last, after ": "
  std::string hint;     // a command or a sentence; may be empty
};

// REQUIRES, for * and ->: the result holds a value. For error(): it does not.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  explicit operator bool() const { return state_.index() == 0; }
  T& operator*() & { return *std::get_if<0>(&state_); }
  const T& operator*() const& { return *std::get_if<0>(&state_); }
  T&& operator*() && { return std::move(*std::get_if<0>(&state_)); }
  T* operator->() { return std::get_if<0>(&state_); }
  const T* operator->() const { return std::get_if<0>(&state_); }
  const Error& error() const { return *std::get_if<1>(&state_); }

 private:
  std::variant<T, Error> state_;
};

struct Done {};  // the value of an operation that has none

}  // namespace clary::tool
