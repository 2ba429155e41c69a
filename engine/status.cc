// Status texts and the per-thread record of the last call.
#include "status.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

namespace clary {
namespace {
struct Last {
  char error[240];
  char hint[200];
  char variant[64];
};
thread_local Last last;

void copy(char* to, size_t capacity, const char* from) {
  const size_t length = strnlen(from, capacity - 1);
  std::memcpy(to, from, length);
  to[length] = 0;
}
}  // namespace

Status& Status::operator=(const Status& other) {
  code_ = other.code_;
  if (code_ != CLARY_OK && this != &other) {
    copy(message_, sizeof message_, other.message_);
    copy(hint_, sizeof hint_, other.hint_);
  }
  return *this;
}

Status Status::error(clary_status_code code, const char* hint, const char* format, ...) {
  Status status;
  status.code_ = code;
  std::va_list args;
  va_start(args, format);
  std::vsnprintf(status.message_, sizeof status.message_, format, args);
  va_end(args);
  copy(status.hint_, sizeof status.hint_, hint);
  return status;
}

clary_status report(const Status& status) {
  if (!status) {
    copy(last.error, sizeof last.error, status.message());
    copy(last.hint, sizeof last.hint, status.hint());
  }
  return status.code();
}
void report_variant(const char* name) { copy(last.variant, sizeof last.variant, name); }
const char* last_error() { return last.error; }
const char* last_hint() { return last.hint; }
const char* last_variant() { return last.variant; }

}  // namespace clary
