// How a problem will be done: a pure function of the problem, the device and a forced name; printable; tested for machines
// we do not have.
#pragma once
#include <cstddef>

#include "device.h"
#include "problem.h"
#include "status.h"

namespace clary {

struct Plan;

// One implementation for one kind of device. Plain functions: dispatch happens once a call.
struct Backend {
  const char* name;
  Status (*run)(const Plan&, const Problem&);
};

// The arithmetic of a sequence's rows; see quant/formats.h and docs/numerics.md.
enum class Arithmetic : uint8_t { kInt8, kInt16, kBf16, kF32, kDirect, kInt8F16 };
constexpr int kArithmetics = 5;  // of a CPU; kInt8F16, int8 scores and 16-bit values, is a GPU's
const char* arithmetic_name(Arithmetic a);

// What one sequence (a batch entry, or a varlen sequence) gets. Depends on that sequence alone, so that a result never
// depends on its batch neighbours: varlen equals dense bit for bit.
struct SequencePlan {
  Arithmetic arithmetic;
  bool packed;         // the group's query heads share blocks of rows: row = head_in_group * Lq + query
  int64_t units;       // per key head: 1 if packed, else the group's query heads
  int64_t rows;        // per unit: Lq * group if packed, else Lq
  int64_t blocks;      // per unit, of kBlockRows rows
  int64_t split_keys;  // keys a work item takes
  int64_t splits;      // work items a block is cut into
};

struct Plan {
  const Backend* backend = nullptr;          // null: no plan, see why
  const void* target = nullptr;              // backend's choice (cpu: const Target*, cuda: const AttentionVariant*)
  const void* path = nullptr;                // cuda: const CodePath*
  Arithmetic arithmetic = Arithmetic::kF32;  // of a sequence of Lq queries and Lk keys
  bool forced_arithmetic = false;            // all sequences use it
  int workers = 1;
  float speedup = 0;       // over torch's SDPA as estimated; 0: unknown
  uint64_t workspace = 0;  // bytes
  char variant[64] = {0};  // "cpu:avx512vnni:int8"
  char reason[160] = {0};  // why this and not another
  Status why;              // set when backend is null
  explicit operator bool() const { return backend != nullptr; }
};

SequencePlan plan_sequence(const Problem& problem, const Plan& plan, int64_t queries, int64_t keys);

// Never fails: a plan that cannot be made says why.
Plan choose(const Problem& problem, const Device& device, const char* force, int threads);

// One line of text, or a JSON object.
int describe(const Problem& problem, const Plan& plan, int32_t format, char* buffer, size_t capacity);

}  // namespace clary
