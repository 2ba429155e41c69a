// What memory a call touches: read-only inputs, guard pages right behind every tensor, strides beyond 2^31 elements, and no
// allocation. Pages come from mmap, so this holds without a sanitizer.
#include <gtest/gtest.h>

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "tests/compare.h"

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // these own malloc
#define CLARY_COUNTS_ALLOCATIONS 1
#else
#define CLARY_COUNTS_ALLOCATIONS 0
#endif

#if CLARY_COUNTS_ALLOCATIONS
#include <atomic>
#include <cerrno>

namespace {
std::atomic<int64_t> allocations{0};
}
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void* malloc(size_t n) { return allocations++, __libc_malloc(n); }
void* calloc(size_t n, size_t m) { return allocations++, __libc_calloc(n, m); }
void* realloc(void* p, size_t n) { return allocations++, __libc_realloc(p, n); }
void* memalign(size_t a, size_t n) { return allocations++, __libc_memalign(a, n); }
void* aligned_alloc(size_t a, size_t n) { return allocations++, __libc_memalign(a, n); }
int posix_memalign(void** p, size_t a, size_t n) {
  allocations++;
  *p = __libc_memalign(a, n);
  return *p ? 0 : ENOMEM;
}
}
#endif

namespace clary::test {
namespace {

#if CLARY_COUNTS_ALLOCATIONS
TEST(Memory, NothingIsAllocatedDuringACall) {
  for (const int32_t accuracy : {CLARY_STANDARD, CLARY_HIGH, CLARY_EXACT})
    for (const Mask mask : {Mask::kNone, Mask::kBool})
      for (const int64_t Lq : {1, 200}) {
        Instance instance(
            {.B = 2, .Hq = 4, .Hkv = 2, .Lq = Lq, .Lk = 1500, .D = 64, .Dv = 64, .accuracy = accuracy, .mask = mask});
        instance.run();  // starts the pool, reads the environment
        uint64_t bytes = 0;
        ASSERT_EQ(clary_workspace_size(&instance.args, &bytes), CLARY_OK);
        std::vector<char> workspace(bytes);
        instance.args.workspace = workspace.data();
        instance.args.workspace_size = bytes;
        const int64_t before = allocations;
        const clary_status good = clary_attention(&instance.args);
        const clary_status planned = clary_workspace_size(&instance.args, &bytes);
        instance.args.causal = 9;
        const clary_status bad = clary_attention(&instance.args);
        const int64_t made = allocations - before;
        EXPECT_EQ(good, CLARY_OK);
        EXPECT_EQ(planned, CLARY_OK);
        EXPECT_EQ(bad, CLARY_INVALID_ARGUMENT);
        EXPECT_EQ(made, 0) << text(instance.c);
      }
}

TEST(Memory, TheCounterCounts) {
  const int64_t before = allocations;
  void* volatile p = std::malloc(1);
  std::free(p);
  const std::vector<int>* volatile x = new std::vector<int>(10);
  delete x;
  EXPECT_GE(allocations - before, 3);
}
#endif

// Pages that end in one that may not be touched.
class Pages {
 public:
  explicit Pages(size_t bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    usable_ = (bytes + page - 1) / page * page;
    all_ = usable_ + page;
    base_ = static_cast<char*>(mmap(nullptr, all_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + usable_, page, PROT_NONE);
  }
  Pages(const Pages&) = delete;
  ~Pages() { munmap(base_, all_); }
  char* ending_at_the_guard(size_t bytes) { return base_ + usable_ - bytes; }
  void read_only() { mprotect(base_, usable_, PROT_READ); }

 private:
  char* base_;
  size_t usable_, all_;
};

// Moves a tensor so that its last element is the last before a guard page.
class Guarded {
 public:
  Guarded(clary_tensor* view, const std::vector<char>& memory, bool output) : pages_(memory.size() + 1) {
    char* at = pages_.ending_at_the_guard(memory.size());
    std::memcpy(at, memory.data(), memory.size());
    view->data = at + (static_cast<char*>(view->data) - memory.data());
    if (!output) pages_.read_only();
  }

 private:
  Pages pages_;
};

TEST(Memory, NothingIsReadOrWrittenBeyondATensor) {
  for (const int32_t dtype : {CLARY_F16, CLARY_BF16, CLARY_F32})
    for (const int64_t D : {1, 3, 20, 33, 64, 100, 128})
      for (const int64_t Lk : {1, 5, 40, 131})
        for (const Layout layout : {Layout::kHnd, Layout::kPadded}) {
          Instance instance({.Hq = 2,
                             .Hkv = 1,
                             .Lq = 19,
                             .Lk = Lk,
                             .D = D,
                             .Dv = D,
                             .dtype = dtype,
                             .out_dtype = dtype,
                             .layout = layout,
                             .out_layout = layout,
                             .mask = D % 2 ? Mask::kBool : Mask::kF16});
          clary_attention_args args = instance.args;
          Guarded q(&args.q, instance.q.memory, false), k(&args.k, instance.k.memory, false),
              v(&args.v, instance.v.memory, false);
          Guarded mask(&args.mask, instance.mask.memory, false);
          Guarded out(&args.out, instance.out.memory, true), lse(&args.lse, instance.lse.memory, true);
          for (const char* arithmetic : {"", ":int8", ":int16", ":f32", ":direct"})
            for (const cpu::Target* t : usable_targets()) {
              const std::string name = std::string(t->name) + arithmetic;
              Forced forced(name.c_str());
              uint64_t bytes = 0;
              ASSERT_EQ(clary_workspace_size(&args, &bytes), CLARY_OK);
              Pages workspace(bytes);
              args.workspace = workspace.ending_at_the_guard(bytes);
              args.workspace_size = bytes;
              ASSERT_EQ(clary_attention(&args), CLARY_OK) << name << " " << text(instance.c);
            }
        }
}

// Strides whose products leave 32 bits, on memory that is only there where it is touched.
class Sparse {
 public:
  explicit Sparse(size_t bytes) : bytes_(bytes) {
    base_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  Sparse(const Sparse&) = delete;
  ~Sparse() {
    if (good()) munmap(base_, bytes_);
  }
  bool good() const { return base_ != MAP_FAILED; }
  void* base() { return base_; }

 private:
  size_t bytes_;
  void* base_;
};

void expect_far_strides(const Case& c, const int64_t (&stride)[4], int64_t mask_stride) {
  Instance near(c);
  struct Part {
    Tensor* from;
    clary_tensor* to;
  };
  clary_attention_args args = near.args;
  const Part parts[] = {{&near.q, &args.q},     {&near.k, &args.k},     {&near.v, &args.v},
                        {&near.out, &args.out}, {&near.lse, &args.lse}, {&near.mask, &args.mask}};
  std::vector<std::unique_ptr<Sparse>> memory;
  std::vector<Tensor> far(6);
  for (int i = 0; i < 6; i++) {
    Tensor& t = far[i];
    t.view = parts[i].from->view;
    std::copy(stride, stride + 4, t.view.stride);
    if (i == 5) t.view.stride[2] = mask_stride;
    int64_t reach = 1;
    for (int d = 0; d < 4; d++) reach += t.view.stride[d] * (t.view.shape[d] - 1);
    ASSERT_GT(reach, int64_t{1} << 31);
    memory.push_back(std::make_unique<Sparse>(static_cast<size_t>(reach * size_of(t.view.dtype))));
    if (!memory.back()->good()) GTEST_SKIP() << "no address space";
    t.view.data = memory.back()->base();
    const int64_t* n = t.view.shape;
    for (int64_t b = 0; b < n[0]; b++)
      for (int64_t h = 0; h < n[1]; h++)
        for (int64_t l = 0; l < n[2]; l++)
          for (int64_t d = 0; d < n[3]; d++) t.set(b, h, l, d, parts[i].from->get(b, h, l, d));
    *parts[i].to = t.view;
  }
  for (const char* arithmetic : {":int8", ":int16", ":f32", ":direct"})
    for (const cpu::Target* t : usable_targets()) {
      const std::string name = std::string(t->name) + arithmetic;
      const Result want = near.run(name.c_str());
      Forced forced(name.c_str());
      uint64_t bytes = 0;
      ASSERT_EQ(clary_workspace_size(&args, &bytes), CLARY_OK);
      std::vector<char> workspace(bytes);
      args.workspace = workspace.data(), args.workspace_size = bytes;
      ASSERT_EQ(clary_attention(&args), CLARY_OK) << clary_last_error();
      EXPECT_TRUE(same_bits(far[3].values(), want.out) && same_bits(far[4].values(), want.lse)) << name;
    }
}

constexpr int64_t kFar = (int64_t{1} << 31) + 4096;

TEST(Memory, BatchAndHeadStridesBeyond32Bits) {
  expect_far_strides({.B = 2,
                      .Hq = 2,
                      .Hkv = 2,
                      .Lq = 5,
                      .Lk = 9,
                      .D = 8,
                      .Dv = 8,
                      .dtype = CLARY_F16,
                      .out_dtype = CLARY_F16,
                      .mask = Mask::kBool},
                     {kFar, kFar / 2, 16, 1}, 16);
}
TEST(Memory, TokenStridesBeyond32Bits) {
  expect_far_strides({.Hq = 1,
                      .Hkv = 1,
                      .Lq = 5,
                      .Lk = 5,
                      .D = 8,
                      .Dv = 8,
                      .dtype = CLARY_BF16,
                      .out_dtype = CLARY_BF16,
                      .mask = Mask::kBool},
                     {kFar * 8, 64, kFar / 4, 1}, kFar / 4);
}

}  // namespace
}  // namespace clary::test
