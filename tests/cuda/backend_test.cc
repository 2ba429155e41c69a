// The C ABI with tensors on a GPU, against a fake driver: what is launched, where, in which order, and what each fault becomes.
#include "engine/cuda/backend.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "engine/cuda/gpu.h"
#include "engine/cuda/image.h"
#include "engine/env.h"
#include "fake_driver.h"
#include "tests/json.h"
#include "tests/support.h"

namespace clary::cuda {
namespace {

class BackendTest : public testing::Test {
 protected:
  void SetUp() override {
    void* handle = dlopen(CLARY_FAKE_DRIVER, RTLD_NOW | RTLD_LOCAL);
    ASSERT_TRUE(handle) << dlerror();
    reinterpret_cast<void (*)()>(dlsym(handle, "fake_driver_reset"))();
    fake = reinterpret_cast<test::FakeDriver* (*)()>(dlsym(handle, "fake_driver"))();
    set_driver_for_test(CLARY_FAKE_DRIVER);
  }
  void TearDown() override {
    EXPECT_EQ(fake->pushes, fake->pops);
    set_force_for_test(nullptr);
    set_device_for_test(nullptr);
    set_driver_for_test(nullptr);
  }

  test::FakeDriver* fake = nullptr;
};

// A call on GPU `id`. No kernel runs, so no address is ever read.
struct Call {
  clary_attention_args args{};
  explicit Call(int64_t L = 2048, int64_t D = 128, int32_t id = 0) {
    args.size = sizeof args;
    args.device_type = CLARY_CUDA;
    args.device_id = id;
    args.stream = reinterpret_cast<void*>(0x5000);
    args.workspace = reinterpret_cast<void*>(0x7000);
    uintptr_t address = 0x100000;
    for (clary_tensor* t : {&args.q, &args.k, &args.v, &args.out}) {
      const int64_t shape[4] = {1, 4, L, D}, stride[4] = {4 * L * D, L * D, D, 1};
      std::memcpy(t->shape, shape, sizeof shape);
      std::memcpy(t->stride, stride, sizeof stride);
      t->dtype = CLARY_BF16;
      t->data = reinterpret_cast<void*>(address += 0x100000);
    }
  }
  clary_status run() {
    if (args.workspace_size == 0)
      if (const clary_status s = clary_workspace_size(&args, &args.workspace_size); s != CLARY_OK) return s;
    return clary_attention(&args);
  }
};

std::string explained(const Call& call) {
  char line[2000];
  EXPECT_EQ(clary_explain(&call.args, CLARY_JSON, line, sizeof line, nullptr), CLARY_OK);
  EXPECT_TRUE(test::JsonReader::valid(line)) << line;
  return line;
}

TEST_F(BackendTest, ValuesQuantiseAttentionOnTheCallersStream) {
  Call call(8192);
  ASSERT_EQ(call.run(), CLARY_OK) << clary_last_error();
  EXPECT_STREQ(clary_last_variant(), "cuda:sm90:int8");
  ASSERT_EQ(fake->launches, 3);
  EXPECT_STREQ(fake->kernels[0], "values_bf16");
  EXPECT_STREQ(fake->kernels[1], "quantise_bf16_128");
  EXPECT_STREQ(fake->kernels[2], "attention_u8_hopper_128");
  EXPECT_EQ(fake->clusters[0], 16u);
  EXPECT_EQ(fake->clusters[1], 1u);
  EXPECT_EQ(fake->clusters[2], 1u);
  EXPECT_EQ(fake->streams[0], call.args.stream);
  EXPECT_EQ(fake->streams[2], call.args.stream);
  ASSERT_EQ(call.run(), CLARY_OK);  // everything is loaded: the same launches, nothing else
  EXPECT_EQ(fake->launches, 6);
  EXPECT_EQ(fake->retains, 1);
}

// Where it is one graph, and where so many launches: in both cases the same kernels with the same arguments.
TEST_F(BackendTest, ACallIsAGraphKeptForItsKernelsAndStream) {
  Call call(4096), other(3000);
  ASSERT_EQ(call.run(), CLARY_OK) << clary_last_error();
  EXPECT_EQ(fake->graphs, 1);
  EXPECT_EQ(fake->graph_launches, 1);
  EXPECT_EQ(fake->graph_edges, 2);   // quantise and Hopper's attention start early
  ASSERT_EQ(other.run(), CLARY_OK);  // other shapes, the same kernels and cluster
  call.args.q.data = reinterpret_cast<void*>(0x900000);
  ASSERT_EQ(call.run(), CLARY_OK);
  EXPECT_EQ(fake->graphs, 1);
  EXPECT_EQ(fake->graph_launches, 3);
  ASSERT_EQ(fake->launches, 9);
  EXPECT_EQ(fake->arguments[1], 0x200000u);  // q
  EXPECT_EQ(fake->arguments[7], 0x900000u);
  EXPECT_STREQ(fake->kernels[6], "values_bf16");
  EXPECT_EQ(fake->clusters[6], 8u);
  EXPECT_STREQ(fake->last_kernel, "attention_u8_hopper_128");

  call.args.stream = nullptr;
  ASSERT_EQ(call.run(), CLARY_OK);
  EXPECT_EQ(fake->graphs, 2);
  EXPECT_EQ(fake->graph_priorities, 0);
  fake->priority = -1;
  call.args.stream = reinterpret_cast<void*>(0x6000);
  ASSERT_EQ(call.run(), CLARY_OK);
  EXPECT_EQ(fake->graphs, 3);
  EXPECT_EQ(fake->graph_priorities, 3);  // a graph's kernels do not take their stream's priority
}

TEST_F(BackendTest, WhatCannotBeAGraphIsLaunches) {
  Call call(4096);
  const auto launches = [&] {
    const int before = fake->launches, graphs = fake->graph_launches;
    EXPECT_EQ(call.run(), CLARY_OK) << clary_last_error();
    EXPECT_EQ(fake->launches, before + 3);
    EXPECT_STREQ(fake->last_kernel, "attention_u8_hopper_128");
    return fake->graph_launches - graphs;
  };
  fake->capturing = true;  // the caller's own graph
  EXPECT_EQ(launches(), 0);
  fake->capturing = false;
  EXPECT_EQ(launches(), 1);
  set_driver_for_test(CLARY_FAKE_DRIVER);
  fake->other_context = true;  // a green one
  EXPECT_EQ(launches(), 0);
  fake->other_context = false;
  for (const char* symbol : {"cuGraphCreate", "cuGraphAddKernelNode", "cuGraphAddDependencies", "cuStreamGetCtx",
                             "cuGraphInstantiateWithFlags", "cuGraphExecKernelNodeSetParams"}) {
    set_driver_for_test(CLARY_FAKE_DRIVER);
    snprintf(fake->fails, sizeof fake->fails, "%s", symbol);
    fake->fails_with = kInvalidValue;
    EXPECT_EQ(launches(), 0) << symbol;
    fake->fails[0] = 0;
    EXPECT_EQ(launches(), 0) << symbol;  // it is not tried again
  }
  set_driver_for_test(CLARY_FAKE_DRIVER);
  snprintf(fake->missing, sizeof fake->missing, "cuGraphAddDependencies");
  EXPECT_EQ(launches(), 0);
  fake->missing[0] = 0;
  fake->version = 12020;
  set_driver_for_test(CLARY_FAKE_DRIVER);
  EXPECT_EQ(launches(), 0);
}

TEST_F(BackendTest, ThreadsOnOneStream) {
  ASSERT_EQ(Call(4096).run(), CLARY_OK);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++)
    threads.emplace_back([] {
      for (int n = 0; n < 200; n++) EXPECT_EQ(Call(4096).run(), CLARY_OK) << clary_last_error();
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(fake->launches, 3 * 801);
  EXPECT_EQ(fake->graphs, 1);
}

TEST_F(BackendTest, MoreKeysThanAClusterHasTakeALaunchMore) {
  Call call(8193);
  ASSERT_EQ(call.run(), CLARY_OK) << clary_last_error();
  ASSERT_EQ(fake->launches, 4);
  EXPECT_STREQ(fake->kernels[0], "values_bf16");
  EXPECT_STREQ(fake->kernels[1], "quantise_bf16_128");
  EXPECT_STREQ(fake->kernels[2], "values_bf16");
  EXPECT_STREQ(fake->kernels[3], "attention_u8_hopper_128");
  for (int i = 0; i < 4; i++) EXPECT_EQ(fake->clusters[i], 1u);
}

TEST_F(BackendTest, TheTensorsDeviceNotTheCurrentOne) {
  fake->devices = 3;
  for (const int id : {2, 0, 1}) {
    Call call(2048, 64, id);
    ASSERT_EQ(call.run(), CLARY_OK) << clary_last_error();
    EXPECT_EQ(fake->last_device_of_launch, id);
  }
  EXPECT_EQ(Call(2048, 64, 3).run(), CLARY_NO_DEVICE);
}

TEST_F(BackendTest, FewQueriesShareOutTheKeys) {
  Call call(32768, 128);
  call.args.q.shape[2] = call.args.out.shape[2] = 1;
  ASSERT_EQ(call.run(), CLARY_OK) << clary_last_error();
  EXPECT_STREQ(fake->last_kernel, "combine");
}

TEST_F(BackendTest, TheWorkspaceIsTheCallers) {
  Call call;
  uint64_t bytes = 0;
  ASSERT_EQ(clary_workspace_size(&call.args, &bytes), CLARY_OK);
  call.args.workspace_size = bytes - 1;
  EXPECT_EQ(clary_attention(&call.args), CLARY_WORKSPACE_TOO_SMALL);
  call.args.workspace_size = bytes;
  call.args.workspace = nullptr;
  EXPECT_EQ(clary_attention(&call.args), CLARY_WORKSPACE_TOO_SMALL);
  EXPECT_EQ(fake->launches, 0);
  EXPECT_EQ(fake->retains, 0);  // no context was needed to say so
}

TEST_F(BackendTest, NothingToDoLaunchesNothing) {
  Call call;
  call.args.q.shape[2] = call.args.out.shape[2] = 0;
  ASSERT_EQ(call.run(), CLARY_OK) << clary_last_error();
  EXPECT_EQ(fake->launches, 0);
}

TEST_F(BackendTest, ForcedCodePathsComeFromTheirPtx) {
  const Archive::Candidates built = embedded_images().find("mma/attention", 9, 0);
  bool older = false;
  for (int i = 0; i < built.count; i++)
    older |= built.entries[i]->kind == ImageKind::kPtx && built.entries[i]->sm == 75;
  for (const char* path : {"sm75", "sm80", "sm90"}) {
    if (std::strcmp(path, "sm75") == 0 && !older) continue;  // not among FAMILIES of tools/build_images.py
    set_driver_for_test(CLARY_FAKE_DRIVER);
    fake->loads = fake->ptx_loads = 0;
    set_force_for_test((std::string("cuda:") + path).c_str());
    Call call;
    ASSERT_EQ(call.run(), CLARY_OK) << clary_last_error();
    EXPECT_EQ(std::string(clary_last_variant()), std::string("cuda:") + path + ":int8");
    EXPECT_EQ(fake->ptx_loads, std::strcmp(path, "sm90") == 0 ? 0 : fake->loads) << path;
  }
  set_force_for_test("cuda:sm120");
  EXPECT_EQ(Call().run(), CLARY_NO_DEVICE);
  set_force_for_test("cpu:scalar");
  EXPECT_EQ(Call().run(), CLARY_NO_DEVICE);
}

TEST_F(BackendTest, NeverSlowerIsAFlag) {
  Call call(64);
  EXPECT_EQ(call.run(), CLARY_OK);
  const int launches = fake->launches;
  call.args.flags = CLARY_NOT_SLOWER;
  EXPECT_EQ(call.run(), CLARY_NOT_SUPPORTED);
  EXPECT_NE(std::strstr(clary_last_error(), "faster"), nullptr);
  EXPECT_EQ(fake->launches, launches);
  EXPECT_NE(explained(call).find("faster"), std::string::npos);
}

TEST_F(BackendTest, FaultsAreStatuses) {
  const struct {
    const char* symbol;
    Result result;
    clary_status status;
  } kFaults[] = {{"cuInit", kNoDevice, CLARY_NO_DEVICE},
                 {"cuDevicePrimaryCtxRetain", kOutOfMemory, CLARY_OUT_OF_MEMORY},
                 {"cuLibraryLoadData", kOutOfMemory, CLARY_OUT_OF_MEMORY},
                 {"cuStreamIsCapturing", kIllegalAddress, CLARY_DEVICE_ERROR},
                 {"cuGraphLaunch", kLaunchOutOfResources, CLARY_DEVICE_ERROR},
                 {"cuLaunchKernelEx", kLaunchOutOfResources, CLARY_DEVICE_ERROR}};
  for (const auto& fault : kFaults) {
    set_driver_for_test(CLARY_FAKE_DRIVER);
    snprintf(fake->fails, sizeof fake->fails, "%s", fault.symbol);
    fake->fails_with = fault.result;
    fake->capturing = std::strcmp(fault.symbol, "cuLaunchKernelEx") == 0;  // else nothing calls it
    EXPECT_EQ(Call().run(), fault.status) << fault.symbol << ": " << clary_last_error();
    EXPECT_GT(std::strlen(clary_last_error()), 10u);
    fake->fails[0] = 0;
  }
  EXPECT_EQ(fake->launches, 0);
}

TEST_F(BackendTest, NoDriverIsSaid) {
  set_driver_for_test("/nonexistent/libcuda.so.1");
  EXPECT_EQ(Call().run(), CLARY_NO_DEVICE);
  EXPECT_NE(explained(Call()).find("no NVIDIA driver"), std::string::npos);
  char line[4000];
  ASSERT_EQ(clary_info(line, sizeof line, nullptr), CLARY_OK);
  EXPECT_TRUE(test::JsonReader::valid(line)) << line;
  EXPECT_NE(std::strstr(line, "no NVIDIA driver"), nullptr) << line;
}

TEST_F(BackendTest, OtherCardsCanBePlannedForButNotRun) {
  set_driver_for_test("/nonexistent/libcuda.so.1");
  set_device_for_test("RTX 4090");
  Call call;
  EXPECT_NE(explained(call).find("cuda:sm89:int8"), std::string::npos);
  EXPECT_EQ(call.run(), CLARY_NO_DEVICE);
  EXPECT_NE(std::strstr(clary_last_error(), "planning only"), nullptr);
  set_device_for_test("RTX 3.14");
  EXPECT_NE(explained(call).find("no known GPU"), std::string::npos);
}

TEST_F(BackendTest, InfoAndExplainMakeNoContext) {
  fake->devices = 2;
  fake->capability[1] = 70;
  char line[4000];
  ASSERT_EQ(clary_info(line, sizeof line, nullptr), CLARY_OK);
  EXPECT_TRUE(test::JsonReader::valid(line)) << line;
  EXPECT_NE(std::strstr(line, "\"capability\": \"9.0\""), nullptr) << line;
  EXPECT_NE(std::strstr(line, "\"path\": null"), nullptr) << line;
  EXPECT_NE(explained(Call()).find("cuda:sm90:int8"), std::string::npos);
  EXPECT_EQ(fake->retains, 0);
}

}  // namespace
}  // namespace clary::cuda
