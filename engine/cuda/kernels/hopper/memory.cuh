// A block's tile and its shared memory: who writes what, who waits for it.
#pragma once
#include "../common/codes.cuh"
#include "../common/store.cuh"
#include "wgmma.cuh"

namespace clary::cuda {

template <int D, int kGroups_, int kStages_, int kConsumerRegisters_, int kLoaderRegisters_>
struct Tile {
  static constexpr int kDim = D, kGroups = kGroups_, kStages = kStages_;
  static constexpr int kConsumerRegisters = kConsumerRegisters_, kLoaderRegisters = kLoaderRegisters_;
  static constexpr int kRows = 64 * kGroups, kKeys = kTileKeys;
  static constexpr int kThreads = 128 * (kGroups + 1);  // warpgroup 0 loads
  static constexpr int kPanel = panel_width(D), kPanels = D / kPanel;
  static constexpr int kColumns = D < 128 ? D : 128, kParts = D / kColumns;  // P V: columns at a time
  // What is faster where, measured (README.md)
  static constexpr bool kMagicStart = D < 256;  // S starts at kMagic: its bits are a float, nothing is converted
  static constexpr bool kScaleAhead = D < 256;  // K's scale is read a tile ahead
  static constexpr bool kTurns = D == 128;      // warpgroups begin their exponentials in turn
  static constexpr bool kSettled = D == 64;     // codes are made before V is waited for
  static constexpr float kBase = kMagicStart ? kOffset : 0;  // what maxima are given less
  static constexpr int kGroupQ = 64 * D, kQ = kGroups * kGroupQ, kK = kKeys * D, kV = kKeys * D;
};

// What is the same for all rows of a tile of queries, and which tiles of keys they see.
struct Item {
  Work work;
  int k_first, v_first;  // the sequence's first row among K's of all heads and panels, and among V's of all heads
  int v_scale;           // its row of V's scales
  int begin, end;        // tiles that some warpgroup sees
  int last;              // there is none: the work is done
  Tiles groups[4];       // each warpgroup's own, within begin .. end
  float steepest[8];     // the largest q scale of each 32 rows
};
// Keys first .. first + count - 1 are what a row sees.
struct Seen {
  int first, count;
};
template <class C>
struct Rows {
  Item item;
  float scale[C::kRows];  // of q
  Seen seen[C::kRows];
  char* out[C::kRows];  // where a row's result goes; null: there is no such row
};

// Two tiles of queries, so that one loads while the other is worked on, and kStages of keys. `full` barriers complete when something has
// arrived, `empty` ones when all who read it are done, `described` when it is known which keys a tile needs, `wanted` when it is time
// to take another tile of queries, `turn` when the warp may begin its exponentials.
template <class C>
struct Memory {
  struct Barriers {
    uint64_t wanted, q_full[2], q_empty[2];
    uint64_t k_full[C::kStages], k_empty[C::kStages], v_full[C::kStages], v_empty[C::kStages];
    uint64_t described[2];
    uint64_t turn[C::kGroups][4];
  };
  struct Shared_ {
    alignas(16) uint8_t q[2][C::kQ];  // [warpgroup][panel][64 rows][panel]
    uint8_t k[C::kStages][C::kK];     // [panel][kKeys][panel]
    uint8_t v[C::kStages][C::kV];     // [kDim][kKeys]
    Rows<C> rows[2];
    alignas(16) uint32_t magic[8][4];  // kMagicRow
    float k_scale[C::kStages][2];      // of the stage's tile and of the next
    float unit[C::kGroups][C::kDim];   // V's scales
    Barriers barriers;
  };
};
template <class C>
using Block = typename Memory<C>::Shared_;

}  // namespace clary::cuda
