#undef _FORTIFY_SOURCE  // its longjmp refuses other stacks
#include "fibers.h"

#include <setjmp.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

namespace clary::emulation {
namespace {

constexpr size_t kStack = 256 << 10;
constexpr size_t kMaxShared = 232 << 10;

struct Copy {
  uint32_t to, bytes;
  const void* from;
};
struct Fiber {
  jmp_buf place;
  ucontext_t first;
  std::unique_ptr<char[]> stack;
  bool done = false;
  std::vector<Copy> copies;
};
struct Warp {
  void* lanes[32];
  int arrived = 0;
  uint64_t turn = 0;
};

std::vector<Fiber> fibers;
std::vector<Warp> warps;
uint32_t block, count, current, running;
uint32_t waiting;
uint64_t barrier_turn;
jmp_buf scheduler;
const std::function<void()>* body_of_grid;
alignas(1024) uint8_t memory[kMaxShared];

// To the next thread that is not done; to the scheduler if there is none.
void next() {
  for (uint32_t i = 1; i <= count; i++) {
    const uint32_t to = (current + i) % count;
    if (fibers[to].done) continue;
    current = to;
    _longjmp(fibers[to].place, 1);
  }
  _longjmp(scheduler, 1);
}
void yield() {
  if (_setjmp(fibers[current].place) == 0) next();
}

void enter() {
  (*body_of_grid)();
  fibers[current].done = true;
  running--;
  if (running && waiting == running) waiting = 0, barrier_turn++;  // who has left is waited for no more
  next();
}

}  // namespace

uint32_t block_index() { return block; }
uint32_t thread_index() { return current; }
uint32_t threads() { return count; }
uint8_t* shared_memory() { return memory; }

void block_barrier() {
  const uint64_t turn = barrier_turn;
  if (++waiting == running) {
    waiting = 0;
    barrier_turn++;
    return;
  }
  while (barrier_turn == turn) yield();
}

void collective(void* own, void (*together)(void** lanes)) {
  Warp& w = warps[current / 32];
  w.lanes[current % 32] = own;
  const uint64_t turn = w.turn;
  if (++w.arrived == 32) {
    together(w.lanes);
    w.arrived = 0;
    w.turn++;
    return;
  }
  while (w.turn == turn) yield();
}

void copy(uint32_t to, const void* from, uint32_t bytes) {
  if (to + bytes > kMaxShared || to % bytes != 0) std::abort();
  fibers[current].copies.push_back({to, bytes, from});
}
void land_copies() {
  for (const Copy& c : fibers[current].copies) std::memcpy(memory + c.to, c.from, c.bytes);
  fibers[current].copies.clear();
}

void run_grid(uint32_t blocks, uint32_t threads, size_t shared_bytes, const std::function<void()>& body) {
  body_of_grid = &body;
  count = threads;
  fibers = std::vector<Fiber>(threads);
  for (Fiber& f : fibers) f.stack = std::make_unique_for_overwrite<char[]>(kStack);
  for (block = 0; block < blocks; block++) {
    std::memset(memory, 0xcd, shared_bytes);
    warps.assign(threads / 32, Warp());
    running = threads;
    waiting = 0;
    for (current = 0; current < threads; current++) {  // each as far as its first instruction
      Fiber& f = fibers[current];
      f.done = false;
      getcontext(&f.first);
      f.first.uc_stack.ss_sp = f.stack.get();
      f.first.uc_stack.ss_size = kStack;
      f.first.uc_link = nullptr;
      makecontext(
          &f.first,
          +[] {
            if (_setjmp(fibers[current].place) == 0) _longjmp(scheduler, 1);
            enter();
          },
          0);

      if (_setjmp(scheduler) == 0) setcontext(&f.first);
    }
    current = threads - 1;
    if (_setjmp(scheduler) == 0) next();
    for (const Warp& w : warps)
      if (w.arrived) std::abort();  // lanes left while others wait
  }
}

}  // namespace clary::emulation
