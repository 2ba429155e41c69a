// A program that does not outlive us, whatever ends us.
//
// Between us and the program stands a process, the guard. It waits for the program, whose status it ends with, and for a word
// or the end of a pipe of which we hold the other end: the end comes when we are gone, by SIGKILL too. Then it asks the
// program's group to end, and five seconds later kills it, and with it what left the group and lost its parent.
#pragma once
#include <sys/types.h>

namespace clary::tool {

struct GuardedStart {
  const char* program;  // found
  char* const* args;
  char* const* environment;
  const char* folder;  // null: here
  int out, err;        // become the program's
  int lifeline;        // the reading end
  int failure;         // gets errno when the program cannot start; nothing when it could
};

// The guard, which leads a group of its own; -1: errno says why there is none.
pid_t start_guarded(const GuardedStart& start);

}  // namespace clary::tool
