// GPU architectures: every spelling, what runs where, and what a toolkit can build. The tables' own consistency.
#include "wheel/core/arch.h"
#include "support.h"
#include "wheel/core/policy.h"
#include "wheel/core/tables.h"

namespace clary::tool::test {
namespace {

std::string torch(const std::string& text, const std::string& toolkit = "13.0", std::vector<int> devices = {}) {
  const Result<ArchList> list = ArchList::parse(text, {*Version::parse(toolkit), std::move(devices)});
  return list ? list->text() : "error: " + list.error().message;
}

TEST(ArchList, EverySpelling) {
  EXPECT_EQ(torch("8.6 9.0 12.0+PTX"), "8.6 9.0 12.0+PTX");
  EXPECT_EQ(torch("9.0;8.6,8.6"), "8.6 9.0");
  EXPECT_EQ(torch("compute_80;sm_80;compute_86;sm_86"), "8.0 8.6");
  EXPECT_EQ(torch("sm_80 compute_90"), "8.0 compute_90");
  EXPECT_EQ(torch("12.0a"), "12.0a");
  EXPECT_EQ(torch("120f"), "12.0f+PTX");  // as CMake reads it
  EXPECT_EQ(torch("86"), "8.6+PTX");
  EXPECT_EQ(torch("86-real 90-virtual"), "8.6 compute_90");
  EXPECT_EQ(torch("10.0a;12.0a"), "10.0a 12.0a");
  EXPECT_EQ(torch("-gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=[sm_90a,compute_90a]"),
            "8.0 9.0a+PTX");
  EXPECT_EQ(torch("-gencode=arch=compute_75,code=compute_75"), "compute_75");
  EXPECT_EQ(torch("native", "13.0", {89, 89}), "8.9");
  EXPECT_EQ(torch("native"), "error: no GPU here to take `native` from");
  EXPECT_EQ(torch("Hopper+PTX ada"), "8.9 9.0+PTX");
  EXPECT_EQ(torch("all-major", "13.0"), "7.5 8.0 9.0 10.0 11.0 12.0+PTX");
  EXPECT_EQ(torch("all-major", "12.8"), "5.0 6.0 7.0 8.0 9.0 10.0 12.0+PTX");
  EXPECT_EQ(torch("all", "12.6"), "5.0 5.2 5.3 6.0 6.1 6.2 7.0 7.2 7.5 8.0 8.6 8.7 8.9 9.0+PTX");
  for (const char* bad : {"", "8", "8.66", "sm_", "12.0x", "banana", "arch=compute_80", "arch=compute_80,code=80",
                          "+PTX", "-real", "8.6+PTX+PTX"})
    EXPECT_EQ(torch(bad).substr(0, 5), "error") << bad;
}

TEST(ArchList, ForEachReader) {
  const Result<ArchList> list = ArchList::parse("8.0 9.0a 12.0+PTX compute_75", {});
  ASSERT_TRUE(list);
  EXPECT_EQ(list->torch(), "8.0 9.0a 12.0+PTX");
  EXPECT_EQ(list->cmake(), "75-virtual;80-real;90a-real;120");
  EXPECT_EQ(join(list->nvcc(), " "),
            "-gencode=arch=compute_75,code=compute_75 -gencode=arch=compute_80,code=sm_80 "
            "-gencode=arch=compute_90a,code=sm_90a "
            "-gencode=arch=compute_120,code=sm_120 -gencode=arch=compute_120,code=compute_120");
  EXPECT_TRUE(list->remarks().empty());
  EXPECT_EQ(ArchList::parse("12.0a+PTX", {})->remarks().size(), 1u);
}

TEST(ArchList, WhatAToolkitCanBuild) {
  const auto why = [](const char* list, const char* toolkit) {
    const std::optional<Error> error = ArchList::parse(list, {})->check(*Version::parse(toolkit));
    return error ? error->message : "";
  };
  EXPECT_EQ(why("8.0 12.0", "12.8"), "");
  EXPECT_EQ(why("12.0", "12.6"), "sm_120 needs CUDA 12.8 or newer, not CUDA 12.6");
  EXPECT_EQ(why("7.0", "13.0"), "sm_70 was dropped in CUDA 13.0");
  EXPECT_EQ(why("8.0a", "13.0"), "there is no sm_80a: the `a` form begins with sm_90a");
  EXPECT_EQ(why("sm_120f", "12.8"), "sm_120f needs CUDA 12.9 or newer, not CUDA 12.8");
  EXPECT_EQ(why("sm_90f", "13.0"), "there is no sm_90f: family code begins with sm_100f");
  EXPECT_EQ(why("sm_100 sm_100f", "13.0"), "nvcc refuses sm_100f beside sm_100");
  EXPECT_EQ(why("sm_100a sm_100f", "13.0"), "");
  EXPECT_EQ(why("9.9", "13.0"), "unknown GPU architecture: sm_99");
}

TEST(Arch, WhatRunsWhere) {
  EXPECT_TRUE(Arch::parse("80")->sass_runs_on(89));
  EXPECT_FALSE(Arch::parse("80")->sass_runs_on(90));
  EXPECT_FALSE(Arch::parse("86")->sass_runs_on(80));
  EXPECT_TRUE(Arch::parse("80")->ptx_runs_on(120));
  EXPECT_FALSE(Arch::parse("120a")->ptx_runs_on(121));
  EXPECT_TRUE(Arch::parse("120f")->sass_runs_on(121));
  EXPECT_FALSE(Arch::parse("120f")->sass_runs_on(100));
  EXPECT_TRUE(Arch::parse("100f")->sass_runs_on(103));
}

TEST(Tables, AreConsistent) {
  const Tables& t = tables();
  for (size_t i = 1; i < t.torch.size(); i++) EXPECT_LT(t.torch[i - 1].version, t.torch[i].version);
  for (size_t i = 1; i < t.toolkits.size(); i++) EXPECT_LT(t.toolkits[i - 1].version, t.toolkits[i].version);
  for (const TorchRelease& r : t.torch) {
    SCOPED_TRACE(r.version.str());
    EXPECT_FALSE(r.python.empty());
    EXPECT_NE(std::find(r.cuda.begin(), r.cuda.end(), r.cuda_default), r.cuda.end());
    for (const Strings* list : {&r.cuda, &r.cuda_limited, &r.cuda_aarch64}) {
      for (const std::string& cuda : *list) EXPECT_TRUE(t.toolkit(*Version::parse(cuda))) << cuda;
    }
    for (const std::string& cuda : r.cuda_aarch64)
      EXPECT_NE(std::find(r.cuda.begin(), r.cuda.end(), cuda), r.cuda.end()) << cuda;
    for (const std::string* text : {&r.torchvision, &r.torchaudio, &r.triton, &r.glibc})
      EXPECT_TRUE(Version::parse(*text)) << *text;
  }
  EXPECT_FALSE(t.release(*Version::parse("2.6.0"))->has_cxx11abi("12.4"));
  EXPECT_TRUE(t.release(*Version::parse("2.6.0"))->has_cxx11abi("12.6"));
  EXPECT_EQ(t.owner_of("libcudart.so.13"), Owner::kCuda);
  EXPECT_EQ(t.owner_of("libc10_cuda.so"), Owner::kTorch);
  EXPECT_EQ(t.owner_of("libc.so.6"), Owner::kSystem);
  EXPECT_EQ(t.owner_of("libfoo.so"), Owner::kOther);
  EXPECT_EQ(t.python_abi.at("PyModule_Create2"), "3.2");
  EXPECT_EQ(t.torch_shim.at("torch_call_dispatcher"), "2.10");
  for (const RefusedSymbols& r : t.refused) EXPECT_TRUE(t.policy(r.first) && t.policy(r.last)) << r.library;
}

TEST(Policy, FilesAndSizes) {
  for (const std::string& name : policy_names()) {
    MemoryWorld world;
    EXPECT_TRUE(load_policy(world.ctx, name)) << name;
  }
  EXPECT_EQ(*parse_size("100 MB"), 100'000'000u);
  EXPECT_EQ(*parse_size("2GiB"), uint64_t{2} << 30);
  EXPECT_FALSE(parse_size("many"));
  EXPECT_FALSE(parse_size("99999999999999999999 GB"));
  EXPECT_TRUE(check_driver_version("525.60.13"));
  EXPECT_FALSE(check_driver_version("new"));
  EXPECT_LT(compare_drivers("525.60.13", "550"), 0);
  EXPECT_EQ(compare_drivers("580", "580.0"), 0);
  const auto why = [](const char* text) { return parse_policy(text, "p.toml").error().message; };
  EXPECT_EQ(why("torhc = \"none\""), "unknown key in p.toml: `torhc`");
  EXPECT_EQ(why("torch = \"some\""), "unknown value of torch: `some`");
  EXPECT_EQ(why("[severity]\n\"X9\" = \"error\""), "unknown rule in p.toml: `X9`");
  EXPECT_EQ(why("[severity]\n\"F2\" = \"loud\""), "not a severity: `loud`");
  EXPECT_EQ(why("driver = \"new\""), "not a driver version: `new`");
  EXPECT_EQ(why("[[dead]]\nmatch = \"*\"\nonly = [\"nine\"]"), "not a GPU architecture in dead: `nine`");
  EXPECT_EQ(why("manylinux = \"manylinux_3_1\""), "unknown manylinux policy: `manylinux_3_1`");
}

}  // namespace
}  // namespace clary::tool::test
