// The threads of a block as fibers of one host thread, in turn: warp collectives and barriers are where they switch.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

namespace clary::emulation {

// Runs `body` once for every thread of every block. Shared memory is filled with garbage before each block.
void run_grid(uint32_t blocks, uint32_t threads, size_t shared_bytes, const std::function<void()>& body);

// Of the thread that runs.
uint32_t block_index();
uint32_t thread_index();
uint32_t threads();
uint8_t* shared_memory();

void block_barrier();
// Waits for all 32 lanes; the last to come calls together(arguments of all lanes).
void collective(void* own, void (*together)(void** lanes));
void copy(uint32_t to, const void* from, uint32_t bytes);
void land_copies();

}  // namespace clary::emulation
