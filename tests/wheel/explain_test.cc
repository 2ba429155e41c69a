// Error messages as people paste them, and the entry of docs/cli/errors.md that must come first for each.
#include "support.h"
#include "wheel/core/catalog.h"
#include "wheel/core/json.h"

namespace clary::tool::test {
namespace {

struct Message {
  const char* code;
  const char* text;
};

constexpr Message kMessages[] = {
    // importing and running
    {"undefined-symbol-torch",
     "ImportError: /venv/lib/python3.12/site-packages/sageattention/_fused.cpython-312-x86_64-linux-gnu.so: undefined "
     "symbol: _ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"},
    {"undefined-symbol-torch", "undefined symbol: _ZNK2at10TensorBase8data_ptrIN3c104HalfEEEPT_v"},
    {"undefined-symbol-torch", "symbol lookup error: _C.abi3.so: undefined symbol: aoti_torch_get_numel"},
    {"undefined-symbol", "ImportError: _C.so: undefined symbol: PyUnicode_AsUTF8AndSize"},
    {"dll-load-failed",
     "ImportError: DLL load failed while importing _fused: The specified module could not be found."},
    {"dll-load-failed",
     "ImportError: DLL load failed while importing _qattn_sm80: The specified procedure could not be found."},
    {"no-kernel-image", "RuntimeError: CUDA error: no kernel image is available for execution on the device"},
    {"no-kernel-image", "cuModuleLoadData failed: CUDA_ERROR_NO_BINARY_FOR_GPU (209)"},
    {"invalid-ptx", "cuModuleLoadData failed: CUDA_ERROR_INVALID_PTX (218)"},
    {"ptx-version", "CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222)"},
    {"ptx-version", "CUDA error: the provided PTX was compiled with an unsupported toolchain."},
    {"driver-too-old", "RuntimeError: The NVIDIA driver on your system is too old (found version 12020)."},
    {"cudart-missing", "ImportError: libcudart.so.13: cannot open shared object file: No such file or directory"},
    {"cudart-missing", "OSError: libcublas.so.12: cannot open shared object file: No such file or directory"},
    {"glibc", "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.32' not found (required by flash_attn_2_cuda.so)"},
    {"glibc", "ImportError: GLIBC_2.32 not found"},
    {"glibc", "/usr/lib/libstdc++.so.6: version `GLIBCXX_3.4.30' not found"},
    {"kernel-not-available",
     "AssertionError: SM89 kernel is not available. Make sure you GPUs with compute capability 8.9."},
    {"kernel-not-available", "ValueError: Unsupported CUDA architecture: sm75"},
    {"kernel-not-available", "CUDA extension not installed for sm_120"},
    {"kernel-not-available", "ImportError: cannot import name '_qattn_sm120' from 'sageattention'"},
    {"no-variant",
     "FileNotFoundError: Cannot find a build variant for this system in kernels-community/sage_attention"},
    {"blackwell-only", "RuntimeError: SageAttention3 only supports Blackwell GPUs or newer."},
    {"blackwell-only", "RuntimeError: Unsupported GPU"},
    {"no-sageattn3", "ModuleNotFoundError: No module named 'sageattn3'"},
    {"head-dim", "AssertionError: headdim should be in [64, 96, 128]."},
    {"head-dim", "ValueError: Unsupported head_dim: 256"},
    {"dtype", "AssertionError: Input tensors must be in dtype of torch.float16 or torch.bfloat16"},
    {"triton-rdna", "error: 'tt.load' op operation destroyed but still has uses"},
    {"python-h", "tcc: error: include file 'Python.h' not found"},
    {"python-h", "main.c:5:10: fatal error: Python.h: No such file or directory"},
    {"shared-memory", "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 131072"},
    {"invalid-cast", "RuntimeWarning: invalid value encountered in cast"},
    {"graph-break",
     "torch._dynamo.exc.Unsupported: Graph break due to unsupported builtin "
     "sageattention._fused.PyCapsule.quant_per_warp"},
    {"graph-break", "torch.* op returned non-Tensor: torch.cuda.device_count"},
    {"aborted", "Fatal Python error: Aborted"},
    {"low-memory-api", "sageattention is not new enough version or could not determine CUDA architecture"},
    {"cubin-download", "requests.exceptions.HTTPError: 403 Client Error: Forbidden for url: https://x/cubins/a.cubin"},

    // installing
    {"unsupported-wheel",
     "ERROR: sageattention-2.2.0-cp311-cp311-linux_x86_64.whl is not a supported wheel on this platform."},
    {"no-matching-version",
     "ERROR: Could not find a version that satisfies the requirement sageattention==2.2.0 (from versions: 1.0.0, "
     "1.0.6)"},
    {"resolution-impossible", "ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/"},
    {"invalid-wheel-name", "ERROR: demo-1.0 (1).whl is not a valid wheel filename."},
    {"inconsistent-version",
     "Requested demo from file:///demo-1.0+cu128-py3-none-any.whl has inconsistent version: expected '1.0+cu128', but "
     "metadata has '1.0'"},
    {"hash-mismatch", "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."},
    {"torn-wheel", "zipfile.BadZipFile: File is not a zip file"},
    {"torn-wheel", "ERROR: Wheel 'demo' located at /tmp/demo-1.0-py3-none-any.whl is invalid."},
    {"index-content-type",
     "WARNING: Skipping page https://x.io/simple/demo/ because the GET request got Content-Type: application/json. The "
     "only "
     "supported Content-Types are application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html, and "
     "text/html"},
    {"externally-managed", "error: externally-managed-environment"},
    {"disk-full", "OSError: [Errno 28] No space left on device"},

    // building
    {"cuda-mismatch",
     "RuntimeError: The detected CUDA version (12.0) mismatches the version that was used to compile PyTorch (13.0)."},
    {"no-cuda-home", "RuntimeError: Cannot find CUDA_HOME. CUDA must be available to build the package."},
    {"no-cuda-home", "OSError: CUDA_HOME environment variable is not set. Please set it to your CUDA install root."},
    {"no-gpu-at-build",
     "RuntimeError: No GPUs found. Please specify the target GPU architectures or build on a machine with GPUs."},
    {"sage3-cuda", "RuntimeError: Sage3 is only supported on CUDA 12.8 and above"},
    {"family-mix",
     "nvcc fatal: The same GPU code (`sm_100f`) generated for non family-specific and family-specific GPU arch"},
    {"unsupported-arch", "nvcc fatal   : Unsupported gpu architecture 'compute_120'"},
    {"cxx-standard", "error: #error C++20 or later compatible compiler is required to use PyTorch."},
    {"compiler-killed", "c++: fatal error: Killed signal terminated program cc1plus"},
    {"compiler-killed", "nvcc error   : 'cicc' died due to signal 9 (Kill signal)"},
    {"host-compiler", "#error -- unsupported GNU version! gcc versions later than 14 are not supported!"},
    {"msvc", "error: Microsoft Visual C++ 14.0 or greater is required."},
    {"msvc", "UserWarning: Error checking compiler version for cl: [WinError 2]"},
    {"build-isolation", "ModuleNotFoundError: No module named 'torch'"},
    {"missing-header", "fatal error: cuda_runtime.h: No such file or directory"},
    {"missing-header", "fatal error: cusparse.h: No such file or directory"},
    {"lib64", "/usr/bin/ld: cannot find -lcudart: No such file or directory"},
    {"missing-module", "ModuleNotFoundError: No module named 'einops'"},
    {"setup-py-install", "SetuptoolsDeprecationWarning: setup.py install is deprecated."},
    {"too-recent-symbols",
     "auditwheel: error: cannot repair \"demo.whl\" to \"manylinux_2_28_x86_64\" ABI because of the presence of "
     "too-recent versioned symbols."},

    // downloading and trusting
    {"download-wrong", "error: not the announced file: https://x.org/demo-1.0-py3-none-any.whl"},
    {"download-cut", "urllib3.exceptions.IncompleteRead: IncompleteRead(1024 bytes read, 99 more expected)"},
    {"signature-wrong", "error: wrong signature: the manifest of hf:a/b is not signed by 0011223344556677"},
    {"manifest-unsigned", "error: not signed: the manifest of https://x.org/latest.json"},
    {"manifest-rolled-back", "error: rolled back: hf:a/b has serial 3, and 4 was seen before"},
    {"trust-damaged", "error: damaged, so nobody knows which manifests were seen: /root/.config/clary/sources.json"},

    // publishing
    {"release-too-large", "HTTP 422: Validation Failed: size must be less than 2147483648"},
    {"empty-matrix",
     "Error when evaluating 'strategy' for job 'build': Matrix vector 'include' does not contain any values"},
    {"hub-token",
     "huggingface_hub.errors.RepositoryNotFoundError: 401 Client Error. Repository Not Found for url: https://x"},
};

TEST(Explain, EachMessageHasItsEntryFirst) {
  for (const Message& m : kMessages) {
    MemoryWorld world;
    EXPECT_EQ(run_clary(world.ctx, {"explain", "--json", m.text}), kFine) << m.text << "\n" << world.err.text;
    const Result<Json> said = parse_json(world.out.text.empty() ? "{}" : world.out.text, "explain");
    ASSERT_TRUE(said);
    const Json& entries = list_of(*said, "entries");
    EXPECT_EQ(entries.empty() ? "nothing" : text_of(entries[0], "code"), m.code) << m.text;
  }
}

TEST(Explain, EachEntryIsReachedByAMessage) {
  for (const Entry& e : catalog()) {
    if (e.is_rule) continue;
    const bool reached =
        std::any_of(std::begin(kMessages), std::end(kMessages), [&](const Message& m) { return e.code == m.code; }) ||
        e.code == "shared-object-missing";  // of any other library: tested below
    EXPECT_TRUE(reached) << "no message for " << e.code;
  }
  EXPECT_EQ(recognise("libfoo.so.1: cannot open shared object file: No such file or directory")[0]->code,
            "shared-object-missing");
}

TEST(Explain, ALogFromAFileOrStandardInput) {
  std::string log = "Collecting demo\n  building\n";
  for (const Message& m : kMessages) log += std::string(m.text) + "\r\n";
  MemoryWorld world;
  world.disk.files["build.log"] = world.disk.files["/dev/stdin"] = log;
  EXPECT_EQ(run_clary(world.ctx, {"explain", "--log", "build.log"}), kFine);
  const std::string from_file = world.out.text;
  world.out.text.clear();
  EXPECT_EQ(run_clary(world.ctx, {"explain", "--log", "-"}), kFine);
  EXPECT_EQ(world.out.text, from_file);
  world.out.text.clear();
  EXPECT_EQ(run_clary(world.ctx, {"explain", "-"}), kFine);
  EXPECT_EQ(world.out.text, from_file);
  for (const Message& m : kMessages) EXPECT_NE(from_file.find(std::string(m.code) + ": "), from_file.npos) << m.code;
  EXPECT_NE(from_file.find("line 3: ImportError"), from_file.npos);  // the first that shows it
}

TEST(Explain, ALineWithoutAnErrorIsNone) {
  for (const char* text :
       {"Successfully installed torch-2.8.0", "running build_ext", "-- The CUDA compiler is nvcc 13.0"})
    EXPECT_TRUE(recognise(text).empty()) << text << ": " << recognise(text)[0]->code;
}

}  // namespace
}  // namespace clary::tool::test
