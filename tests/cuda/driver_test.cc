// The loader against a fake driver: what each fault becomes, what is loaded once, what is put back.
#include "engine/cuda/driver.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "engine/cuda/gpu.h"
#include "fake_driver.h"

namespace clary::cuda {
namespace {

constexpr char kImage[] = "any/quantise", kName[] = "values_bf16";

class DriverTest : public testing::Test {
 protected:
  void SetUp() override {
    handle_ = dlopen(CLARY_FAKE_DRIVER, RTLD_NOW | RTLD_LOCAL);
    ASSERT_TRUE(handle_) << dlerror();
    reinterpret_cast<void (*)()>(dlsym(handle_, "fake_driver_reset"))();
    fake = reinterpret_cast<test::FakeDriver* (*)()>(dlsym(handle_, "fake_driver"))();
    depth_ = reinterpret_cast<int (*)()>(dlsym(handle_, "fake_context_depth"));
    set_driver_for_test(CLARY_FAKE_DRIVER);
  }
  void TearDown() override {
    EXPECT_EQ(depth(), 0);
    set_driver_for_test(nullptr);
  }
  void fail(const char* symbol, Result result, int after = 0) {
    snprintf(fake->fails, sizeof fake->fails, "%s", symbol);
    fake->fails_with = result;
    fake->fails_after = after;
  }
  int depth() const { return depth_(); }

  // Everything a call does, on GPU `ordinal`.
  static Status run(int ordinal = 0, const char* name = kName) {
    const Gpu* g = nullptr;
    if (Status s = gpu(ordinal, &g); !s) return s;
    CurrentGpu current;
    if (Status s = current.enter(*g, nullptr); !s) return s;
    Kernel kernel = nullptr;
    if (Status s = find_kernel(*g, kImage, name, &kernel); !s) return s;
    int argument = 0;
    return launch(*g, nullptr, {kernel, 7, 256, 0, true}, &argument);
  }

  test::FakeDriver* fake = nullptr;

 private:
  void* handle_ = nullptr;
  int (*depth_)() = nullptr;
};

#define EXPECT_STATUS(status, wanted, part)                                               \
  do {                                                                                    \
    const Status got = (status);                                                          \
    EXPECT_EQ(got.code(), wanted) << got.message();                                       \
    EXPECT_NE(std::string(got.message()).find(part), std::string::npos) << got.message(); \
    EXPECT_NE(std::string(got.hint()), "");                                               \
  } while (0)

TEST_F(DriverTest, Runs) {
  EXPECT_TRUE(run()) << run().message();
  EXPECT_EQ(fake->launches, 1);
  EXPECT_EQ(fake->last_grid, 7u);
  EXPECT_EQ(fake->loads, 1);
  EXPECT_EQ(fake->ptx_loads, 0);
}

TEST_F(DriverTest, NoDriver) {
  set_driver_for_test("/nonexistent/libcuda.so.1");
  EXPECT_STATUS(run(), CLARY_NO_DEVICE, "no NVIDIA driver");
  EXPECT_STATUS(run(), CLARY_NO_DEVICE, "no NVIDIA driver");  // and so it stays
  int count = -1;
  EXPECT_FALSE(gpu_count(&count));
  EXPECT_EQ(count, 0);
}

TEST_F(DriverTest, NotADriver) {
  set_driver_for_test("libm.so.6");
  EXPECT_STATUS(run(), CLARY_NO_DEVICE, "not a CUDA driver");
}

TEST_F(DriverTest, TooOld) {
  fake->version = 11080;
  EXPECT_STATUS(run(), CLARY_NO_DEVICE, "CUDA 11.8; clary needs 12.0");
}

TEST_F(DriverTest, EntryPointMissing) {
  snprintf(fake->missing, sizeof fake->missing, "cuLibraryGetKernel");
  EXPECT_STATUS(run(), CLARY_NO_DEVICE, "no cuLibraryGetKernel");
}

TEST_F(DriverTest, NoGpu) {
  fail("cuInit", kNoDevice);
  EXPECT_STATUS(run(), CLARY_NO_DEVICE, "no GPU");
}

TEST_F(DriverTest, OrdinalOutOfRange) {
  fake->devices = 2;
  EXPECT_STATUS(run(2), CLARY_NO_DEVICE, "no GPU 2; the driver shows 2");
  EXPECT_STATUS(run(-1), CLARY_NO_DEVICE, "no GPU -1");
}

TEST_F(DriverTest, OutOfMemory) {
  fail("cuLibraryLoadData", kOutOfMemory);
  EXPECT_STATUS(run(), CLARY_OUT_OF_MEMORY, "out of GPU memory");
  fake->fails[0] = 0;  // memory is there again: so is the kernel
  EXPECT_TRUE(run());
}

TEST_F(DriverTest, StickyErrorOnEntry) {
  ASSERT_TRUE(run());
  const int launches = fake->launches;
  for (const Result r : {700, 715, 716, 717, 718, 719}) {
    fail("cuStreamIsCapturing", r);
    EXPECT_STATUS(run(), CLARY_DEVICE_ERROR, "earlier work failed");
  }
  EXPECT_EQ(fake->launches, launches);
  EXPECT_EQ(fake->pushes, fake->pops);
}

TEST_F(DriverTest, AfterFork) {
  ASSERT_TRUE(run());
  fail("cuCtxGetCurrent", kNotInitialized);
  EXPECT_STATUS(run(), CLARY_DEVICE_ERROR, "not initialised");
}

TEST_F(DriverTest, LaunchFails) {
  fail("cuLaunchKernelEx", kLaunchOutOfResources);
  const Status s = run();
  EXPECT_EQ(s.code(), CLARY_DEVICE_ERROR);
  EXPECT_NE(std::string(s.message()).find("CUDA_ERROR_FAKE (701)"), std::string::npos) << s.message();
}

TEST_F(DriverTest, MismatchedLibrary) {
  fail("cuInit", kSystemDriverMismatch);
  EXPECT_STATUS(run(), CLARY_NO_DEVICE, "do not fit together");
}

TEST_F(DriverTest, UnknownCardGetsPtx) {
  fake->capability[0] = 134;
  EXPECT_TRUE(run()) << run().message();
  EXPECT_EQ(fake->ptx_loads, fake->loads);
  EXPECT_EQ(fake->loads, 1);
}

TEST_F(DriverTest, RefusedCubinFallsBackToPtx) {
  fake->no_binary = true;
  EXPECT_TRUE(run()) << run().message();
  EXPECT_GE(fake->ptx_loads, 1);
}

TEST_F(DriverTest, NoImageAtAll) {
  fake->capability[0] = 70;
  EXPECT_STATUS(run(), CLARY_NOT_SUPPORTED, "7.0");
  fake->capability[0] = 90;
  set_driver_for_test(CLARY_FAKE_DRIVER);
  fail("cuKernelGetFunction", kUnsupportedPtxVersion);
  EXPECT_STATUS(run(), CLARY_NOT_SUPPORTED, "PTX included");
}

TEST_F(DriverTest, UnknownKernel) {
  const Status s = run(0, "no_such_kernel");
  EXPECT_EQ(s.code(), CLARY_DEVICE_ERROR);
  EXPECT_NE(std::string(s.message()).find("looking up a kernel"), std::string::npos) << s.message();
}

TEST_F(DriverTest, KernelNamesNeedNotOutliveTheCall) {
  char name[32];
  for (const char* wanted : {"values_bf16", "quantise_bf16_64", "quantise_bf16_128", "values_bf16"}) {
    snprintf(name, sizeof name, "%s", wanted);
    ASSERT_TRUE(run(0, name));
    EXPECT_STREQ(fake->last_kernel, wanted);
  }
  EXPECT_EQ(fake->lookups, 3);
}

TEST_F(DriverTest, ContextIsPutBack) {
  const Gpu *first = nullptr, *second = nullptr;
  fake->devices = 2;
  ASSERT_TRUE(gpu(0, &first));
  ASSERT_TRUE(gpu(1, &second));
  CurrentGpu outer;
  ASSERT_TRUE(outer.enter(*first, nullptr));
  EXPECT_EQ(depth(), 1);
  {
    CurrentGpu same;
    ASSERT_TRUE(same.enter(*first, nullptr));
    EXPECT_EQ(depth(), 1);  // nothing to do
  }
  {
    CurrentGpu other;
    ASSERT_TRUE(other.enter(*second, nullptr));
    EXPECT_EQ(depth(), 2);
  }
  EXPECT_EQ(depth(), 1);
  EXPECT_EQ(fake->retains, 2);
}

TEST_F(DriverTest, SeveralGpusShareOneLibraryPerImage) {
  fake->devices = 4;
  const int capabilities[] = {90, 90, 80, 89};
  for (int i = 0; i < 4; i++) fake->capability[i] = capabilities[i];
  for (int round = 0; round < 2; round++)
    for (int i = 0; i < 4; i++) {
      ASSERT_TRUE(run(i));
      EXPECT_EQ(fake->last_device_of_launch, i);
    }
  EXPECT_EQ(fake->loads, 2);  // sm_90, and sm_80 for 8.0 and 8.9
  EXPECT_EQ(fake->functions, 4);
  EXPECT_EQ(fake->retains, 4);
}

TEST_F(DriverTest, OverlapOnlyWhereItIsKnown) {
  fake->devices = 2;
  fake->capability[1] = 89;
  ASSERT_TRUE(run(0));
  EXPECT_EQ(fake->last_attributes, 1);
  ASSERT_TRUE(run(1));
  EXPECT_EQ(fake->last_attributes, 0);
  fake->version = 12020;
  set_driver_for_test(CLARY_FAKE_DRIVER);
  ASSERT_TRUE(run(0));
  EXPECT_EQ(fake->last_attributes, 0);
}

TEST_F(DriverTest, FirstUseFromManyThreads) {
  fake->devices = 4;
  std::atomic<int> good = 0, left = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 16; i++)
    threads.emplace_back([&, i] {
      good += static_cast<bool>(run(i % 4));
      left += depth();
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(good, 16);
  EXPECT_EQ(left, 0);
  EXPECT_EQ(fake->inits, 1);
  EXPECT_EQ(fake->loads, 1);
  EXPECT_EQ(fake->retains, 4);
  EXPECT_EQ(fake->most_concurrent, 1);
  EXPECT_EQ(fake->launches, 16);
}

}  // namespace
}  // namespace clary::cuda
