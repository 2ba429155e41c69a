// The C boundary: layout, words, texts, and the corpus of bad calls. Every bad call has a status and a sentence of its own, a
// hint, and leaves the outputs as they were.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <set>
#include <thread>

#include "engine/env.h"
#include "tests/json.h"
#include "tests/support.h"

extern "C" {
uint64_t abi_c_args_size(void);
clary_status abi_c_one_by_one(float* out);
}

namespace clary::test {
namespace {

TEST(Abi, SizesAgreeBetweenCAndCpp) { EXPECT_EQ(abi_c_args_size(), sizeof(clary_attention_args)); }

TEST(Abi, CallableFromC) {
  float out = 0;
  ASSERT_EQ(abi_c_one_by_one(&out), CLARY_OK) << clary_last_error();
  EXPECT_EQ(out, 7.0f);
}

TEST(Abi, VersionIsTheHeaders) { EXPECT_STREQ(clary_version(), CLARY_VERSION); }

TEST(Abi, EveryStatusHasItsOwnName) {
  std::set<std::string> names;
  for (int s = CLARY_OK; s <= CLARY_INTERNAL; s++) names.insert(clary_status_name(s));
  EXPECT_EQ(names.size(), static_cast<size_t>(CLARY_INTERNAL + 1));
  EXPECT_STREQ(clary_status_name(-1), clary_status_name(CLARY_INTERNAL + 1));
  EXPECT_EQ(names.count(clary_status_name(-1)), 0u);
}

TEST(Abi, TextsAreEmptyOnAFreshThread) {
  std::thread([] {
    EXPECT_STREQ(clary_last_variant(), "");
    EXPECT_STREQ(clary_last_error(), "");
    EXPECT_STREQ(clary_last_hint(), "");
  }).join();
}

TEST(Abi, TextsBelongToTheThread) {
  EXPECT_NE(clary_attention(nullptr), CLARY_OK);
  const std::string mine = clary_last_error();
  std::thread([] {
    uint64_t bytes;
    clary_attention_args empty{};
    EXPECT_NE(clary_workspace_size(&empty, &bytes), CLARY_OK);
  }).join();
  EXPECT_EQ(mine, clary_last_error());
}

Case small() { return {.B = 2, .Hq = 4, .Hkv = 2, .Lq = 5, .Lk = 7, .D = 16, .Dv = 8, .layout = Layout::kPadded}; }

struct Bad {
  const char* name;
  std::function<void(clary_attention_args&)> spoil;
  clary_status status;
  const char* says;  // part of the sentence
};

const int32_t kLens[2] = {3, 8}, kNegative[2] = {-1, 2};
const int32_t kCu[3] = {0, 2, 5}, kCuBad[3] = {0, 6, 5}, kCuStart[3] = {1, 2, 5}, kCuK[3] = {0, 3, 7};
const clary_executor kNoFunctions = {sizeof(clary_executor), nullptr, nullptr, nullptr};

// Turns the arguments into one packed batch entry.
void packed(clary_attention_args& a, const int32_t* cu_q, const int32_t* cu_k) {
  for (clary_tensor* t : {&a.q, &a.k, &a.v, &a.out, &a.lse}) t->shape[0] = 1;
  a.cu_seqlens_q = cu_q;
  a.cu_seqlens_k = cu_k;
  a.num_seqs = 2;
}

const Bad kBad[] = {
    {"size_zero", [](auto& a) { a.size = 0; }, CLARY_INVALID_ARGUMENT, "args.size is 0"},
    {"size_short", [](auto& a) { a.size -= 8; }, CLARY_INVALID_ARGUMENT, "args.size"},
    {"q_dtype", [](auto& a) { a.q.dtype = 0; }, CLARY_INVALID_DTYPE, "q.dtype"},
    {"q_bool", [](auto& a) { a.q.dtype = CLARY_BOOL; }, CLARY_INVALID_DTYPE, "q.dtype"},
    {"out_dtype", [](auto& a) { a.out.dtype = 9; }, CLARY_INVALID_DTYPE, "out.dtype"},
    {"k_other_dtype", [](auto& a) { a.k.dtype = CLARY_F16; }, CLARY_INVALID_DTYPE, "f32, f16, f32"},
    {"lse_dtype", [](auto& a) { a.lse.dtype = CLARY_F16; }, CLARY_INVALID_DTYPE, "lse.dtype"},
    {"mask_dtype", [](auto& a) { a.mask = a.q, a.mask.shape[3] = 7, a.mask.dtype = 5; }, CLARY_INVALID_DTYPE,
     "mask.dtype"},
    {"negative_size", [](auto& a) { a.q.shape[2] = -1; }, CLARY_INVALID_SHAPE, "q has a dimension of size -1"},
    {"huge_size", [](auto& a) { a.k.shape[2] = INT64_MAX; }, CLARY_INVALID_SHAPE, "k has a dimension"},
    {"zero_D", [](auto& a) { a.q.shape[3] = a.k.shape[3] = 0; }, CLARY_INVALID_SHAPE, "D = 0"},
    {"zero_Dv", [](auto& a) { a.v.shape[3] = a.out.shape[3] = 0; }, CLARY_INVALID_SHAPE, "Dv = 0"},
    {"D_257", [](auto& a) { a.q.shape[3] = a.k.shape[3] = 257; }, CLARY_NOT_SUPPORTED, "257"},
    {"Dv_257",
     [](auto& a) {
       a.v.shape[3] = a.out.shape[3] = 257;
       for (int i = 0; i < 3; i++) a.out.stride[i] *= 257;
     },
     CLARY_NOT_SUPPORTED, "257"},
    {"heads", [](auto& a) { a.q.shape[1] = 3; }, CLARY_INVALID_SHAPE, "3 heads"},
    {"no_kv_heads", [](auto& a) { a.k.shape[1] = a.v.shape[1] = 0; }, CLARY_INVALID_SHAPE, "0"},
    {"k_batch", [](auto& a) { a.k.shape[0] = 3; }, CLARY_INVALID_SHAPE, "k has shape [3"},
    {"k_dim", [](auto& a) { a.k.shape[3] = 8; }, CLARY_INVALID_SHAPE, "k has shape"},
    {"v_length", [](auto& a) { a.v.shape[2] = 6; }, CLARY_INVALID_SHAPE, "v has shape"},
    {"out_shape", [](auto& a) { a.out.shape[2] = 4; }, CLARY_INVALID_SHAPE, "out has shape"},
    {"lse_shape", [](auto& a) { a.lse.shape[3] = 2; }, CLARY_INVALID_SHAPE, "lse has shape"},
    {"mask_shape", [](auto& a) { a.mask = a.q, a.mask.shape[3] = 8; }, CLARY_INVALID_SHAPE, "mask has shape"},
    {"last_stride", [](auto& a) { a.v.stride[3] = 2; }, CLARY_INVALID_STRIDE, "v has last stride 2"},
    {"out_broadcast", [](auto& a) { a.out.stride[0] = 0; }, CLARY_INVALID_STRIDE, "out has overlapping"},
    {"out_overlap", [](auto& a) { a.out.stride[2] = 3; }, CLARY_INVALID_STRIDE, "out has overlapping"},
    {"out_stride_overflow", [](auto& a) { a.out.stride[2] = INT64_MIN, a.out.stride[1] = INT64_MAX; },
     CLARY_INVALID_STRIDE, "out"},
    {"lse_broadcast", [](auto& a) { a.lse.stride[1] = 0; }, CLARY_INVALID_STRIDE, "lse has overlapping"},
    {"q_null", [](auto& a) { a.q.data = nullptr; }, CLARY_INVALID_ARGUMENT, "q.data is null"},
    {"out_null", [](auto& a) { a.out.data = nullptr; }, CLARY_INVALID_ARGUMENT, "out.data is null"},
    {"lse_null", [](auto& a) { a.lse.data = nullptr; }, CLARY_INVALID_ARGUMENT, "lse.data is null"},
    {"alias", [](auto& a) { a.out.data = a.v.data; }, CLARY_INVALID_ARGUMENT, "alias"},
    {"accuracy", [](auto& a) { a.accuracy = 4; }, CLARY_INVALID_ARGUMENT, "accuracy is 4"},
    {"causal", [](auto& a) { a.causal = -1; }, CLARY_INVALID_ARGUMENT, "causal is -1"},
    {"window", [](auto& a) { a.flags = CLARY_HAS_WINDOW, a.window_left = -2; }, CLARY_INVALID_ARGUMENT, "(-2, 0)"},
    {"scale_nan", [](auto& a) { a.flags = CLARY_HAS_SCALE, a.scale = NAN; }, CLARY_INVALID_ARGUMENT, "scale"},
    {"device_type", [](auto& a) { a.device_type = 2; }, CLARY_INVALID_ARGUMENT, "device_type is 2"},
    {"executor", [](auto& a) { a.executor = &kNoFunctions; }, CLARY_INVALID_ARGUMENT, "executor"},
    {"kv_lens_long", [](auto& a) { a.kv_lens = kLens; }, CLARY_INVALID_ARGUMENT, "kv_lens[1] is 8"},
    {"kv_lens_negative", [](auto& a) { a.kv_lens = kNegative; }, CLARY_INVALID_ARGUMENT, "kv_lens[0] is -1"},
    {"cu_one_only", [](auto& a) { packed(a, kCu, nullptr); }, CLARY_INVALID_ARGUMENT, "only one"},
    {"cu_batch",
     [](auto& a) {
       packed(a, kCu, kCuK), a.q.shape[0] = a.k.shape[0] = a.v.shape[0] = a.out.shape[0] = a.lse.shape[0] = 2;
     },
     CLARY_INVALID_SHAPE, "batch 2"},
    {"cu_start", [](auto& a) { packed(a, kCuStart, kCuK); }, CLARY_INVALID_ARGUMENT, "cu_seqlens_q runs from 1"},
    {"cu_end", [](auto& a) { packed(a, kCu, kCu); }, CLARY_INVALID_ARGUMENT, "cu_seqlens_k runs from 0 to 5"},
    {"cu_decreases", [](auto& a) { packed(a, kCuBad, kCuK); }, CLARY_INVALID_ARGUMENT, "cu_seqlens_q[2] = 5 is below"},
    {"cu_num_seqs", [](auto& a) { packed(a, kCu, kCuK), a.num_seqs = -1; }, CLARY_INVALID_ARGUMENT, "num_seqs is -1"},
    {"cu_with_kv_lens", [](auto& a) { packed(a, kCu, kCuK), a.kv_lens = kLens; }, CLARY_INVALID_ARGUMENT, "kv_lens"},
    {"workspace_null", [](auto& a) { a.workspace = nullptr; }, CLARY_WORKSPACE_TOO_SMALL, "workspace"},
    {"workspace_small", [](auto& a) { a.workspace_size--; }, CLARY_WORKSPACE_TOO_SMALL, "workspace"},
};

TEST(Abi, EveryBadCallFailsInItsOwnWords) {
  Instance instance(small());
  std::set<std::string> sentences;
  for (const Bad& bad : kBad) {
    SCOPED_TRACE(bad.name);
    clary_attention_args args = instance.args;
    uint64_t bytes = 0;
    ASSERT_EQ(clary_workspace_size(&args, &bytes), CLARY_OK) << clary_last_error();
    std::vector<char> workspace(bytes);
    args.workspace = workspace.data();
    args.workspace_size = bytes;
    bad.spoil(args);
    instance.out.poison();
    instance.lse.poison();
    const std::vector<char> out = instance.out.memory, lse = instance.lse.memory;
    EXPECT_EQ(clary_attention(&args), bad.status) << clary_last_error();
    EXPECT_NE(std::string(clary_last_error()).find(bad.says), std::string::npos) << clary_last_error();
    EXPECT_GT(std::strlen(clary_last_hint()), 10u);
    EXPECT_EQ(instance.out.memory, out);
    EXPECT_EQ(instance.lse.memory, lse);
    sentences.insert(clary_last_error());
  }
  EXPECT_GE(sentences.size(), std::size(kBad) - 6);  // some say the same of two ways to be wrong
}

TEST(Abi, NullArgumentsAreAnswered) {
  uint64_t bytes;
  EXPECT_EQ(clary_attention(nullptr), CLARY_INVALID_ARGUMENT);
  EXPECT_EQ(clary_workspace_size(nullptr, &bytes), CLARY_INVALID_ARGUMENT);
  Instance instance(small());
  EXPECT_EQ(clary_workspace_size(&instance.args, nullptr), CLARY_INVALID_ARGUMENT);
  EXPECT_EQ(clary_explain(nullptr, CLARY_TEXT, nullptr, 0, nullptr), CLARY_INVALID_ARGUMENT);
  EXPECT_EQ(clary_explain(&instance.args, CLARY_TEXT, nullptr, 0, nullptr), CLARY_OK);
  EXPECT_EQ(clary_info(nullptr, 0, nullptr), CLARY_OK);
}

TEST(Abi, AFailureLeavesTheVariantAndASuccessTheError) {
  Instance instance(small());
  ASSERT_EQ(instance.run().status, CLARY_OK);
  const std::string variant = clary_last_variant();
  EXPECT_EQ(variant.rfind("cpu:", 0), 0u);
  EXPECT_NE(clary_attention(nullptr), CLARY_OK);
  EXPECT_EQ(variant, clary_last_variant());
  ASSERT_EQ(instance.run().status, CLARY_OK);
  EXPECT_STREQ(clary_last_error(), "args is null");
}

TEST(Abi, LaterStructsAreAccepted) {
  Instance instance(small());
  struct {
    clary_attention_args args;
    char later[64];
  } larger{instance.args, {}};
  larger.args.size = sizeof larger;
  uint64_t bytes;
  EXPECT_EQ(clary_workspace_size(&larger.args, &bytes), CLARY_OK) << clary_last_error();
}

TEST(Abi, WorkspaceIsPlannedWithoutData) {
  Instance instance(small());
  uint64_t with = 0, without = 1;
  ASSERT_EQ(clary_workspace_size(&instance.args, &with), CLARY_OK);
  clary_attention_args args = instance.args;
  args.q.data = args.k.data = args.v.data = args.out.data = args.lse.data = nullptr;
  ASSERT_EQ(clary_workspace_size(&args, &without), CLARY_OK) << clary_last_error();
  EXPECT_EQ(with, without);
}

// A workspace for one thread serves two, on one; unless the caller would rather know.
TEST(Abi, WorkspaceForFewerThreads) {
  Instance instance({.Lq = 512, .Lk = 512, .D = 64, .Dv = 64});
  clary_attention_args args = instance.args;
  uint64_t one = 0, two = 0;
  clary_set_threads(1);
  ASSERT_EQ(clary_workspace_size(&args, &one), CLARY_OK);
  clary_set_threads(2);
  ASSERT_EQ(clary_workspace_size(&args, &two), CLARY_OK);
  EXPECT_LT(one, two);
  std::vector<char> workspace(one);
  args.workspace = workspace.data(), args.workspace_size = one;
  EXPECT_EQ(clary_attention(&args), CLARY_OK) << clary_last_error();
  args.flags |= CLARY_FULL_WORKSPACE;
  EXPECT_EQ(clary_attention(&args), CLARY_WORKSPACE_TOO_SMALL);
  EXPECT_EQ(clary_last_error(),
            "the workspace has " + std::to_string(one) + " bytes; this call needs " + std::to_string(two));
  clary_set_threads(0);
}

using Writer = std::function<clary_status(char*, size_t, size_t*)>;
void expect_buffer_rules(const Writer& write) {
  size_t needed = 0;
  ASSERT_EQ(write(nullptr, 0, &needed), CLARY_OK);
  ASSERT_GT(needed, 1u);
  std::vector<char> exact(needed, 'x');
  ASSERT_EQ(write(exact.data(), needed, nullptr), CLARY_OK);
  EXPECT_EQ(std::strlen(exact.data()) + 1, needed);
  std::vector<char> half(needed / 2 + 1, 'x');
  ASSERT_EQ(write(half.data(), needed / 2, &needed), CLARY_OK);
  EXPECT_EQ(half[needed / 2 - 1], 0);
  EXPECT_EQ(half[needed / 2], 'x');
  EXPECT_EQ(std::strncmp(half.data(), exact.data(), needed / 2 - 1), 0);
}

TEST(Abi, ExplainAndInfoFillBuffers) {
  Instance instance(small());
  for (const int32_t format : {CLARY_TEXT, CLARY_JSON})
    expect_buffer_rules(
        [&](char* b, size_t n, size_t* needed) { return clary_explain(&instance.args, format, b, n, needed); });
  expect_buffer_rules([](char* b, size_t n, size_t* needed) { return clary_info(b, n, needed); });
}

TEST(Abi, ExplainAndInfoAreJson) {
  char line[2000];
  ASSERT_EQ(clary_info(line, sizeof line, nullptr), CLARY_OK);
  EXPECT_TRUE(JsonReader::valid(line)) << line;
  Instance instance(small());
  for (const Bad& bad : kBad) {
    clary_attention_args args = instance.args;
    bad.spoil(args);
    if (args.size < sizeof args) continue;
    ASSERT_EQ(clary_explain(&args, CLARY_JSON, line, sizeof line, nullptr), CLARY_OK) << bad.name;
    EXPECT_TRUE(JsonReader::valid(line)) << line;
  }
  set_force_for_test("cpu:\"quoted\"\\\n");
  EXPECT_EQ(clary_explain(&instance.args, CLARY_JSON, line, sizeof line, nullptr), CLARY_OK);
  set_force_for_test(nullptr);
  EXPECT_TRUE(JsonReader::valid(line)) << line;
}

}  // namespace
}  // namespace clary::test
