// A failure as the caller reads it: a code of clary.h, one sentence, one repair. Holds its text inline: making one
// allocates nothing, and passing Ok around costs one test.
#pragma once
#include "clary/clary.h"

namespace clary {

class Status {
 public:
  Status() = default;
  Status(const Status& other) { *this = other; }
  Status& operator=(const Status& other);
  // printf-style message; `hint` is copied as it is and may be "".
  [[gnu::format(printf, 3, 4)]] static Status error(clary_status_code code, const char* hint, const char* format, ...);

  explicit operator bool() const { return code_ == CLARY_OK; }
  clary_status code() const { return code_; }
  const char* message() const { return code_ ? message_ : ""; }
  const char* hint() const { return code_ ? hint_ : ""; }

 private:
  clary_status code_ = CLARY_OK;
  char message_[240], hint_[200];  // of a failure; else not even cleared
};

// The last failure and the last variant of this thread, behind clary_last_error() and friends.
clary_status report(const Status& status);
void report_variant(const char* name);
const char* last_error();
const char* last_hint();
const char* last_variant();

}  // namespace clary
