/* clary: low-bit attention behind one C ABI.
 *
 * Conventions, numbered so that the rest of this header can cite them:
 *
 *  1. Pure C. Every function returns a clary_status unless it cannot fail; nothing throws, prints, aborts or exits.
 *  2. The first field of every struct is its size in bytes as the caller compiled it. Zero the struct, set `size`, fill what
 *     you need: a zero field means "default", and fields added later are zero for old callers.
 *  3. A tensor is a view: data, shape and strides, both in elements, 64-bit, always in the logical order batch, head, token,
 *     channel whatever the order in memory. The last stride is 1; any other may be anything, 0 (broadcast) included for inputs.
 *     A tensor with data == NULL and all-zero shape is absent.
 *  4. Inputs are never written. Output may not alias inputs, workspace or itself (no two elements at one address).
 *  5. The library allocates nothing during a call: the caller passes a workspace of at least clary_workspace_size() bytes,
 *     any alignment. Its content is undefined before and after. One workspace serves one call at a time.
 *  6. On a failure nothing has been written to `out` or `lse`, and clary_last_error() and clary_last_hint() say, on this
 *     thread, what was wrong and how to repair it.
 *  7. All functions may be called from any thread at the same time. The same inputs give the same bits whatever the number of
 *     threads, the batch neighbours or the memory layout.
 *  8. Strings are UTF-8, owned by the library, and valid until the next call on the same thread unless said otherwise.
 */
#ifndef CLARY_CLARY_H_
#define CLARY_CLARY_H_

#include <stddef.h>
#include <stdint.h>

#define CLARY_VERSION "0.1.0"
#define CLARY_ABI_VERSION 1

#if defined(_WIN32)
#if defined(CLARY_BUILDING)
#define CLARY_API __declspec(dllexport)
#else
#define CLARY_API __declspec(dllimport)
#endif
#else
#define CLARY_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- words ------------------------------------------------------------------------------------------------------------ */

typedef enum clary_status_code {
  CLARY_OK = 0,
  CLARY_INVALID_ARGUMENT = 1, /* a field is out of range or missing */
  CLARY_INVALID_SHAPE = 2,    /* shapes do not fit together */
  CLARY_INVALID_STRIDE = 3,   /* last stride is not 1, or an output overlaps itself */
  CLARY_INVALID_DTYPE = 4,    /* a dtype this tensor cannot have, or a mixture */
  CLARY_NOT_SUPPORTED = 5,    /* correct, but no backend here serves it (head_dim > 256, device missing) */
  CLARY_WORKSPACE_TOO_SMALL = 6,
  CLARY_NO_DEVICE = 7, /* forced or requested device, driver or instruction set is not there */
  CLARY_OUT_OF_MEMORY = 8,
  CLARY_DEVICE_ERROR = 9, /* the driver reported a failure, possibly of earlier work */
  CLARY_INTERNAL = 10
} clary_status_code;
typedef int32_t clary_status; /* a clary_status_code */

typedef enum clary_dtype {
  CLARY_F16 = 1,
  CLARY_BF16 = 2,
  CLARY_F32 = 3,
  CLARY_BOOL = 4 /* one byte, nonzero = true */
} clary_dtype;

typedef enum clary_device_type { CLARY_CPU = 0, CLARY_CUDA = 1 } clary_device_type;

typedef enum clary_causal {
  CLARY_CAUSAL_NONE = 0,
  CLARY_CAUSAL_UPPER_LEFT = 1, /* query i sees keys 0..i: torch SDPA's is_causal */
  CLARY_CAUSAL_LOWER_RIGHT = 2 /* query i sees keys 0..i+Lk-Lq, Lk after kv_lens: FlashAttention, KV cache */
} clary_causal;

/* Bounds on the relative L2 error of each word are in docs/numerics.md. */
typedef enum clary_accuracy {
  CLARY_STANDARD = 0, /* int8 Q K^T (K mean removed, rotated), int8 P V with exact integer sums */
  CLARY_EXACT = 1,    /* f32 */
  CLARY_HIGH = 2,     /* int16 on the CPU */
  CLARY_FAST = 3      /* whatever is faster than standard on the device; standard where nothing is */
} clary_accuracy;

enum {
  CLARY_HAS_SCALE = 1,  /* `scale` is given; else 1/sqrt(D) */
  CLARY_HAS_WINDOW = 2, /* `window_left`, `window_right` are given */
  CLARY_NOT_SLOWER = 4, /* CLARY_NOT_SUPPORTED where torch's scaled_dot_product_attention is estimated to be faster */
  CLARY_FULL_WORKSPACE = 8 /* a workspace too small for all threads is refused; without, the call runs on fewer */
};

/* ---- structs ---------------------------------------------------------------------------------------------------------- */

typedef struct clary_tensor {
  void* data;
  int64_t shape[4];  /* [B, H, L, D]; unused dimensions are 1 */
  int64_t stride[4]; /* elements */
  int32_t dtype;     /* clary_dtype */
  int32_t reserved;  /* 0 */
} clary_tensor;

/* Runs task(task_context, i) for every i in [0, count), in any order, possibly at the same time, and returns when all are
 * done. Indices are at most concurrency() - 1 and each runs once; they are workers, not units of work. */
typedef struct clary_executor {
  uint64_t size;
  void* context;
  int32_t (*concurrency)(void* context);
  void (*parallel)(void* context, int32_t count, void (*task)(void* task_context, int32_t index), void* task_context);
} clary_executor;

typedef struct clary_attention_args {
  uint64_t size;       /* sizeof(clary_attention_args) */
  uint32_t flags;      /* CLARY_HAS_* */
  int32_t device_type; /* clary_device_type: where all tensors, lengths and the workspace are */
  int32_t device_id;   /* CUDA: the driver's number of the GPU */
  int32_t accuracy;    /* clary_accuracy */
  int32_t causal;      /* clary_causal */
  float scale;         /* softmax scale, natural units, with CLARY_HAS_SCALE */

  /* With CLARY_HAS_WINDOW: query i sees keys p - window_left .. p + window_right, where p is i, or i + Lk - Lq under
   * lower_right; -1 = unlimited. */
  int64_t window_left;
  int64_t window_right;

  clary_tensor q;   /* [B, Hq, Lq, D]  f16, bf16 or f32 */
  clary_tensor k;   /* [B, Hkv, Lk, D] q's dtype; Hq a multiple of Hkv */
  clary_tensor v;   /* [B, Hkv, Lk, Dv] q's dtype */
  clary_tensor out; /* [B, Hq, Lq, Dv] f16, bf16 or f32 */

  /* Optional f32 [B, Hq, Lq, 1]: natural log of the sum of exp of the scores; -inf for a row that sees no key. */
  clary_tensor lse;

  /* Optional [B, Hq, Lq, Lk]: bool (true = attend), or f16, bf16, f32 added to the scores in natural units. Any stride may
   * be 0, the last one may be anything. */
  clary_tensor mask;

  const int32_t* kv_lens; /* optional [B] on the device: keys of batch entry b at kv_lens[b] and beyond do not exist */

  /* Variable length: B = 1, q is [1, Hq, total_q, D], k and v [1, Hkv, total_k, D]; sequence s owns queries
   * cu_seqlens_q[s] .. cu_seqlens_q[s+1]-1 and keys likewise. Both arrays [num_seqs + 1] on the device, starting at 0,
   * non-decreasing, ending at total_q and total_k. Not with mask or kv_lens. */
  const int32_t* cu_seqlens_q;
  const int32_t* cu_seqlens_k;
  int64_t num_seqs;
  int64_t max_seqlen_q; /* upper bounds; 0 = unknown */
  int64_t max_seqlen_k;

  void* workspace;
  uint64_t workspace_size;
  void* stream;                   /* CUDA: the CUstream to run on; NULL = the legacy default stream */
  const clary_executor* executor; /* CPU: whose threads to run on; NULL = the library's pool */
} clary_attention_args;

/* ---- calls ------------------------------------------------------------------------------------------------------------ */

/* out = softmax(scale * q k^T + mask) v. A row that sees no key gives 0. B, Lq, Lk may be 0. */
CLARY_API clary_status clary_attention(const clary_attention_args* args);

/* Bytes of workspace the same call needs. Data pointers of tensors may be NULL here (a tensor is then absent only if its shape
 * is all zero). Sequence lengths given on the device are not read: the answer holds for any of them. */
CLARY_API clary_status clary_workspace_size(const clary_attention_args* args, uint64_t* bytes);

typedef enum clary_format { CLARY_TEXT = 0, CLARY_JSON = 1 } clary_format;

/* Writes which variant would run and why, or why none does. `buffer` gets at most `capacity` bytes including the final NUL;
 * `needed`, if not NULL, the bytes for all of it. Fails only if args itself is unusable. */
CLARY_API clary_status clary_explain(const clary_attention_args* args, int32_t format, char* buffer, size_t capacity,
                                     size_t* needed);

/* The same for the machine: version, devices, instruction sets built and usable, threads. Always JSON. */
CLARY_API clary_status clary_info(char* buffer, size_t capacity, size_t* needed);

CLARY_API const char* clary_version(void);
CLARY_API const char* clary_status_name(clary_status status);
CLARY_API const char* clary_last_variant(void); /* of this thread's last successful clary_attention; "" before */
CLARY_API const char* clary_last_error(void);   /* of this thread's last failure: one sentence; "" before */
CLARY_API const char* clary_last_hint(void);    /* the repair; may be "" */

/* Number of CPU threads of the library's pool. 0 restores the default: the CPUs this process may use (affinity and cgroup
 * quota), or CLARY_THREADS. Returns the number now in force. */
CLARY_API int32_t clary_set_threads(int32_t count);

/* Calls that name no executor run on the threads of the OpenMP runtime that `library`, a shared object loaded in this process,
 * uses ("libtorch_cpu.so"): as many as that runtime would use, or as clary_set_threads or CLARY_THREADS said. NULL: on the
 * library's pool again. CLARY_NOT_SUPPORTED when no such object is loaded or it uses no OpenMP; nothing changes then. */
CLARY_API clary_status clary_use_openmp(const char* library);

#ifdef __cplusplus
}
#endif
#endif /* CLARY_CLARY_H_ */
