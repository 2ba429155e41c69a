/* clary.h as C11 sees it: the layout a caller compiled with a C compiler relies on. */
#include "clary/clary.h"

_Static_assert(sizeof(clary_tensor) == 80, "clary_tensor");
_Static_assert(sizeof(clary_executor) == 32, "clary_executor");
_Static_assert(offsetof(clary_attention_args, q) == 48, "q");
_Static_assert(offsetof(clary_attention_args, kv_lens) == 48 + 6 * 80, "kv_lens");
_Static_assert(sizeof(clary_attention_args) == 48 + 6 * 80 + 10 * 8, "clary_attention_args");
_Static_assert(sizeof(clary_status) == 4, "clary_status");

uint64_t abi_c_args_size(void);
clary_status abi_c_one_by_one(float* out);

uint64_t abi_c_args_size(void) { return sizeof(clary_attention_args); }

/* The smallest call: one query, one key, one channel; out = v = 7. */
clary_status abi_c_one_by_one(float* out) {
  static float q = 2, k = 3, v = 7;
  clary_attention_args args = {0};
  const clary_tensor one = {0, {1, 1, 1, 1}, {1, 1, 1, 1}, CLARY_F32, 0};
  static char workspace[1 << 20];
  args.size = sizeof args;
  args.accuracy = CLARY_EXACT;
  args.q = args.k = args.v = args.out = one;
  args.q.data = &q;
  args.k.data = &k;
  args.v.data = &v;
  args.out.data = out;
  args.workspace = workspace;
  args.workspace_size = sizeof workspace;
  return clary_attention(&args);
}
