// ELF, PE and GPU code: what is read from files made here, from the system's own libraries against readelf, and from what
// nvcc makes against cuobjdump.
#include <algorithm>
#include <map>
#include <set>

#include "support.h"
#include "wheel/core/elf.h"
#include "wheel/core/facts.h"
#include "wheel/core/gpu.h"
#include "wheel/core/pe.h"
#include "wheel/core/tables.h"
#include "wheel/os/posix.h"

namespace clary::tool::test {
namespace {

TEST(Elf, ReadsWhatTheLoaderReads) {
  ElfSpec spec = module_spec();
  spec.soname = "libdemo.so.1", spec.runpath = "$ORIGIN/lib";
  spec.needed = {"libc.so.6", "libtorch_cpu.so"};
  spec.symbols.push_back({.name = "_ZN3c106detail14torchCheckFailEPKcS2_jS2_"});
  spec.symbols.push_back({.name = "exp", .version = "GLIBC_2.29", .library = "libm.so.6", .weak = true});
  spec.bind_now = true, spec.isa = 4;
  for (const bool headers : {true, false}) {  // a stripped file has no sections: the loader does not need them
    spec.section_headers = headers;
    const std::string bytes = make_elf(spec);
    const Result<Elf> elf = Elf::parse(bytes_of(bytes));
    ASSERT_TRUE(elf);
    EXPECT_TRUE(elf->faults.empty()) << elf->faults[0];
    EXPECT_EQ(elf->machine_name(), "x86_64");
    EXPECT_EQ(elf->soname, "libdemo.so.1");
    EXPECT_EQ(elf->runpath, "$ORIGIN/lib");
    ASSERT_EQ(elf->needed.size(), 2u);
    EXPECT_EQ(elf->needed[1], "libtorch_cpu.so");
    ASSERT_EQ(elf->symbols.size(), 5u);
    EXPECT_EQ(elf->symbols[1].version, "GLIBC_2.14");
    EXPECT_EQ(elf->symbols[1].library, "libc.so.6");
    EXPECT_TRUE(elf->symbols[0].defined);
    EXPECT_EQ(elf->symbols[4].bind, 2);
    EXPECT_TRUE(elf->bind_now);
    EXPECT_TRUE(elf->relro);
    EXPECT_EQ(elf->x86_isa, 4u);
  }
}

TEST(Elf, SurvivesAnyDamage) {
  ElfSpec spec = module_spec();
  spec.isa = 2;
  spec.sections = {{".nv_fatbin", make_fatbin({{.sm = 80}, {.kind = 'p', .sm = 80, .packing = 'z'}})},
                   {".rodata", make_cubin({.sm = 90, .feature = 'a'})}};
  size_t symbols = 0, images = 0;
  for_each_damage(make_elf(spec), 6000, [&](const std::string& bad) {
    if (!is_binary(bytes_of(bad))) return;
    const BinaryFacts facts = binary_facts(bytes_of(bad), "bad.so", true);
    symbols += facts.imports.size(), images += facts.gpu.images.size();
  });
  EXPECT_GT(symbols, 0u);
  EXPECT_GT(images, 0u);
}

TEST(Elf, NotOne) {
  EXPECT_FALSE(Elf::parse(bytes_of("")));
  EXPECT_FALSE(Elf::parse(bytes_of(std::string("\x7f"
                                               "ELF\x02\x02",
                                               6) +
                                   std::string(60, '\0'))));  // big-endian
  EXPECT_FALSE(Elf::parse(bytes_of(std::string("\x7f"
                                               "ELF\x02\x01",
                                               6) +
                                   std::string(20, '\0'))));
}

// readelf -dW and -VW: needed libraries, soname, and the versions asked of each library.
TEST(Oracle, Readelf) {
  Strings libraries;
  for (const char* path : {"/lib/x86_64-linux-gnu/libstdc++.so.6", "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
                           "/lib/x86_64-linux-gnu/libm.so.6", "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
                           "/usr/lib/aarch64-linux-gnu/libstdc++.so.6", "/usr/bin/python3"}) {
    PosixDisk disk;
    if (disk.info(path)) libraries.push_back(path);
  }
  if (libraries.empty() || run_program({"readelf", "--version"}).empty())
    GTEST_SKIP() << "no readelf, or no library to read";
  for (const std::string& path : libraries) {
    SCOPED_TRACE(path);
    PosixDisk disk;
    const Result<Mapping> file = disk.map(path);
    ASSERT_TRUE(file);
    const Result<Elf> elf = Elf::parse(file->bytes);
    ASSERT_TRUE(elf);
    std::multiset<std::string> mine, theirs;
    for (std::string_view name : elf->needed) mine.insert("(NEEDED) [" + std::string(name) + "]");
    if (!elf->soname.empty()) mine.insert("(SONAME) [" + std::string(elf->soname) + "]");
    for (const ElfNeed& need : elf->needs) mine.insert(std::string(need.version));
    size_t undefined = 0, all = 0;
    for (const ElfSymbol& s : elf->symbols) undefined += !s.defined, all++;
    const std::string dynamic = run_program({"readelf", "-dW", path}), versions = run_program({"readelf", "-VW", path}),
                      table = run_program({"readelf", "--dyn-syms", "-W", path});
    for (std::string_view line : lines(dynamic)) {
      for (std::string_view tag : {"(NEEDED)", "(SONAME)"}) {
        if (line.find(tag) != line.npos)
          theirs.insert(std::string(tag) + " " + std::string(line.substr(line.find('['))));
      }
    }
    bool needs = false;
    for (std::string_view line : lines(versions)) {
      if (line.starts_with("Version needs"))
        needs = true;
      else if (line.starts_with("Version"))
        needs = false;
      const size_t name = line.find("Name: ");
      if (needs && name != line.npos)
        theirs.insert(std::string(line.substr(name + 6, line.find(' ', name + 6) - name - 6)));
    }
    size_t their_undefined = 0, their_all = 0;
    for (std::string_view line : lines(table)) {
      const std::vector<std::string_view> words = split_any(line, " ");
      if (words.size() < 7 || words[0] == "Num:" || !words[0].ends_with(':') || words[0] == "0:") continue;
      their_all++, their_undefined += words[6] == "UND";
    }
    EXPECT_EQ(mine, theirs);
    EXPECT_EQ(all, their_all);
    EXPECT_EQ(undefined, their_undefined);
  }
}

TEST(Symbols, Owners) {
  EXPECT_EQ(first_namespace("_ZN3c106detail14torchCheckFailEPKcS2_jS2_"), "c10");
  EXPECT_EQ(first_namespace("_ZNK2at10TensorBase5sizesEv"), "at");
  EXPECT_EQ(first_namespace("_ZTVN5torch8autograd4NodeE"), "torch");
  EXPECT_EQ(first_namespace("_ZNSt7__cxx1112basic_stringIcE"), "std");
  EXPECT_EQ(first_namespace("_ZSt20__throw_length_errorPKc"), "std");
  EXPECT_EQ(first_namespace("_Znwm"), "std");
  EXPECT_EQ(first_namespace("_ZThn16_N3c104FuncEv"), "c10");
  EXPECT_EQ(first_namespace("_ZN9999x"), "");
  EXPECT_EQ(first_namespace("_Z"), "");
  EXPECT_EQ(symbol_owner("_ZN3c1011SymInt", ""), SymbolOwner::kTorch);
  EXPECT_EQ(symbol_owner("aoti_torch_empty_strided", ""), SymbolOwner::kTorchShim);
  EXPECT_EQ(symbol_owner("cuLaunchKernel", ""), SymbolOwner::kCudaDriver);
  EXPECT_EQ(symbol_owner("cudaMalloc", "libcudart.so.12"), SymbolOwner::kCudaRuntime);
  EXPECT_EQ(symbol_owner("cublasCreate_v2", "libcublas.so.12"), SymbolOwner::kCudaLibrary);
  EXPECT_EQ(symbol_owner("_Py_Dealloc", ""), SymbolOwner::kPython);
  EXPECT_EQ(symbol_owner("memcpy", "libc.so.6"), SymbolOwner::kLibc);
  EXPECT_EQ(symbol_owner("custom", ""), SymbolOwner::kOther);
}

TEST(Pe, ImportsExportsAndGpuCode) {
  PeSpec spec;
  spec.imports = {{"python312.dll", {"PyModule_Create2"}}, {"cudart64_12.dll", {"cudaMalloc", "cudaFree"}}};
  spec.exports = {"PyInit__C"};
  spec.fatbin = make_fatbin({{.sm = 89}});
  const std::string bytes = make_pe(spec);
  const Result<Pe> pe = Pe::parse(bytes_of(bytes));
  ASSERT_TRUE(pe);
  EXPECT_TRUE(pe->faults.empty());
  EXPECT_EQ(pe->machine, "x86_64");
  ASSERT_EQ(pe->imports.size(), 2u);
  EXPECT_EQ(pe->imports[1].library, "cudart64_12.dll");
  EXPECT_EQ(pe->imports[1].symbols.size(), 2u);
  ASSERT_EQ(pe->exports.size(), 1u);
  EXPECT_EQ(pe->exports[0], "PyInit__C");
  ASSERT_EQ(pe->gpu.images.size(), 1u);
  EXPECT_EQ(pe->gpu.images[0].name(), "sm_89");
  for_each_damage(bytes, 3000, [](const std::string& bad) {
    const Result<Pe> read = Pe::parse(bytes_of(bad));
    if (read) (void)read->imports.size();
  });
}

TEST(Gpu, EveryKindOfImage) {
  const std::vector<ImageSpec> specs = {
      {.sm = 75, .packing = 'l', .padding = 5000},
      {.sm = 80, .packing = 'z', .toolkit = "12.8.93", .padding = 70'000},
      {.sm = 90, .feature = 'a'},
      {.sm = 120, .feature = 'f', .packing = 'z'},
      {.kind = 'p', .sm = 80, .packing = 'z', .isa = "8.7", .padding = 500},
      {.kind = 'p', .sm = 120, .feature = 'a', .packing = 'l', .isa = "9.0", .padding = 500},
      {.kind = 'l', .sm = 100}};
  const std::string bytes = make_fatbin(specs);
  const GpuCode gpu = gpu_code_of_file(bytes_of(bytes));
  EXPECT_TRUE(gpu.faults.empty()) << gpu.faults[0];
  ASSERT_EQ(gpu.images.size(), specs.size());
  Strings seen;
  for (const GpuImage& i : gpu.images) {
    seen.push_back(i.name() + " " + kind_name(i.kind) + " " + packing_name(i.packing) + " " + i.toolkit + i.isa);
    const Result<Buffer> content = unpack(bytes_of(bytes), i);
    ASSERT_TRUE(content) << seen.back();
    if (i.kind == ImageKind::kSass) {
      EXPECT_TRUE(Elf::looks_like(content->bytes()));
    }
  }
  EXPECT_EQ(seen, (Strings{"sm_75 SASS lz4 12.9.86", "sm_80 SASS zstd 12.8.93", "sm_90a SASS none 12.9.86",
                           "sm_120f SASS zstd 12.9.86", "compute_80 PTX zstd 8.7", "compute_120a PTX lz4 9.0",
                           "compute_100 LTO-IR none "}));
}

TEST(Gpu, WhereverItLies) {
  ElfSpec spec;
  const std::string one = make_fatbin({{.sm = 80}}), two = make_fatbin({{.sm = 80}, {.sm = 90}});
  spec.sections = {
      {".nv_fatbin", one + std::string(24, '\0') + two},
      {".rodata", std::string(40, 'r') + make_cubin({.sm = 100, .feature = 'a'}) + make_fatbin({{.sm = 75}})}};
  const std::string bytes = make_elf(spec);
  const GpuCode gpu = gpu_code_of_elf(*Elf::parse(bytes_of(bytes)));
  EXPECT_EQ(gpu.containers, 4u);
  Strings names;
  for (const GpuImage& i : gpu.images) names.push_back(i.name() + (i.bare ? " bare" : ""));
  EXPECT_EQ(names, (Strings{"sm_80", "sm_80", "sm_90", "sm_100a bare", "sm_75"}));
}

TEST(Gpu, BareFiles) {
  const std::string
      cubin = make_cubin({.sm = 120, .feature = 'f'}),
      ptx = "// Cuda compilation tools, release 13.0, V13.0.88\n.version 9.0\n.target sm_90a, texmode_independent\n";
  EXPECT_EQ(gpu_code_of_file(bytes_of(cubin)).images[0].name(), "sm_120f");
  EXPECT_EQ(gpu_code_of_file(bytes_of(cubin)).images[0].size, cubin.size());
  const GpuCode code = gpu_code_of_file(bytes_of(ptx));
  ASSERT_EQ(code.images.size(), 1u);
  EXPECT_EQ(code.images[0].name() + " " + code.images[0].isa + " " + code.images[0].toolkit, "compute_90a 9.0 13.0.88");
  EXPECT_TRUE(gpu_code_of_file(bytes_of("hello")).empty());
}

TEST(Gpu, LiesAreFaults) {
  const auto faults = [](std::string bytes, size_t at, uint8_t value) {
    bytes[at] = static_cast<char>(value);
    return join(gpu_code_of_file(bytes_of(bytes)).faults, "; ");
  };
  const std::string good = make_fatbin({{.sm = 80}});
  EXPECT_EQ(faults(good, 12, 0xff), "at 0x0: a container reaches past its section");
  EXPECT_EQ(faults(good, 16 + 8 + 4, 1), "at 0x10: an entry reaches past its container");
  EXPECT_EQ(faults(good, 16, 77), "at 0x10: an entry of unknown kind 77");
  EXPECT_EQ(faults(good, 16 + 64, 0), "at 0x10: an entry that says it is a cubin and is none");
  EXPECT_EQ(faults(good, 16 + 41, 0x10), "at 0x10: an entry packed in an unknown way");
  EXPECT_EQ(join(gpu_code_of_file(bytes_of(good + "12345678extra bytes")).faults, ""),
            "at 0x" + format("%zx", good.size()) + ": bytes that belong to no container");
}

TEST(Gpu, SurvivesAnyDamage) {
  const std::string good = make_fatbin({{.sm = 80, .packing = 'l', .padding = 300},
                                        {.sm = 90, .packing = 'z', .padding = 300},
                                        {.kind = 'p', .sm = 90, .packing = 'z'}});
  for_each_damage(good, 6000, [](const std::string& bad) {
    const GpuCode gpu = gpu_code_of_file(bytes_of(bad));
    for (const GpuImage& i : gpu.images) (void)unpack(bytes_of(bad), i, 1 << 20);
  });
}

// Every image nvcc makes of one source, against cuobjdump's own list.
TEST(Oracle, NvccAndCuobjdump) {
  PosixProc proc;
  PosixDisk disk;
  const std::string home = proc.env("CUDA_HOME").value_or("/usr/local/cuda");
  const std::string nvcc = proc.find("nvcc").value_or(home + "/bin/nvcc");
  if (!disk.info(nvcc)) GTEST_SKIP() << "no nvcc";
  const std::string source = temp_file("k.cu", "__global__ void k(float* a) { a[threadIdx.x] *= 2; }\n"),
                    made = temp_file("k.fatbin", "");
  const Result<Finished> done =
      proc.run({nvcc, "-fatbin", "-o", made, source, "-gencode", "arch=compute_80,code=[sm_80,compute_80]", "-gencode",
                "arch=compute_90a,code=sm_90a"},
               120);
  if (!done || done->exit_code != 0) GTEST_SKIP() << "nvcc does not compile here";
  const Result<Mapping> file = disk.map(made);
  ASSERT_TRUE(file);
  const GpuCode gpu = gpu_code_of_file(file->bytes);
  EXPECT_TRUE(gpu.faults.empty());
  std::multiset<std::string> mine, theirs;
  for (const GpuImage& i : gpu.images) {
    mine.insert((i.kind == ImageKind::kSass ? "ELF " : "PTX ") + i.arch.sass());
    EXPECT_TRUE(unpack(file->bytes, i)) << i.name();
    if (i.kind == ImageKind::kSass) {
      EXPECT_TRUE(Version::parse(i.toolkit)) << i.toolkit;
    }
  }
  EXPECT_EQ(mine, (std::multiset<std::string>{"ELF sm_80", "ELF sm_90a", "PTX sm_80"}));
  const std::string cuobjdump =
      proc.env("CLARY_TEST_CUOBJDUMP").value_or(proc.find("cuobjdump").value_or(home + "/bin/cuobjdump"));
  if (!disk.info(cuobjdump)) GTEST_SKIP() << "nvcc's images are as asked; no cuobjdump to compare with";
  const std::string listed = run_program({cuobjdump, "--list-elf", "--list-ptx", made});
  for (std::string_view line : lines(listed)) {  // "ELF file    1: k.1.sm_80.cubin"
    const size_t sm = line.find("sm_");
    if (sm != line.npos)
      theirs.insert(std::string(line.substr(0, 3)) + " " + std::string(line.substr(sm, line.find('.', sm) - sm)));
  }
  EXPECT_EQ(mine, theirs);
}

TEST(Facts, ManylinuxFit) {
  const auto fit = [](const std::string& version, const std::string& library) {
    ElfSpec spec;
    spec.symbols = {{.name = "f", .version = version, .library = library}};
    const std::string bytes = make_elf(spec);
    const std::vector<BinaryFacts> binaries = {binary_facts(bytes_of(bytes), "a.so", false)};
    return manylinux_fit(binaries, "x86_64").policy;
  };
  EXPECT_EQ(fit("GLIBC_2.2.5", "libc.so.6"), "manylinux_2_5_x86_64");
  EXPECT_EQ(fit("GLIBC_2.14", "libc.so.6"), "manylinux_2_17_x86_64");
  EXPECT_EQ(fit("GLIBCXX_3.4.29", "libstdc++.so.6"), "manylinux_2_34_x86_64");
  EXPECT_EQ(fit("CXXABI_TM_1", "libstdc++.so.6"), "manylinux_2_17_x86_64");
  EXPECT_EQ(fit("GLIBC_PRIVATE", "libc.so.6"), "");
  EXPECT_EQ(fit("FOO_9.9", "libfoo.so"), "manylinux_2_5_x86_64");
}

// The policies were condensed from auditwheel's: both must answer alike for every version either knows.
TEST(Oracle, AuditwheelPolicies) {
  const std::string said = oracle_python(R"(
import json, pathlib
try: import auditwheel
except ImportError: print("none"); raise SystemExit
for p in json.loads((pathlib.Path(auditwheel.__file__).parent / "policy/manylinux-policy.json").read_text()):
    for arch, libs in p["symbol_versions"].items():
        for lib in ("GLIBC", "GLIBCXX", "CXXABI", "GCC"):
            for v in libs[lib]: print(p["name"], arch, lib, v)
)",
                                         "");
  if (said.empty() || said == "none\n") GTEST_SKIP() << "no auditwheel in the oracle's Python";
  size_t checked = 0;
  std::map<std::string, std::set<std::string>> allowed;
  for (std::string_view line : lines(said)) {
    const std::vector<std::string_view> w = split(line, ' ');
    const ManylinuxPolicy* policy = tables().policy(w[0]);
    if (!policy) continue;  // newer than ours
    const ManylinuxPolicy::Limit* limit = policy->limit(w[1]);
    ASSERT_TRUE(limit) << line;
    const Result<Version> version = Version::parse(w[3]);
    const bool number = version && w[3].find_first_not_of("0123456789.") == w[3].npos;
    const bool ok = number
                        ? limit->newest.contains(std::string(w[2])) && *version <= limit->newest.at(std::string(w[2]))
                        : std::find(limit->also.begin(), limit->also.end(),
                                    std::string(w[2]) + "_" + std::string(w[3])) != limit->also.end();
    EXPECT_TRUE(ok) << line;
    checked++;
  }
  EXPECT_GT(checked, 1000u);
}

}  // namespace
}  // namespace clary::tool::test
