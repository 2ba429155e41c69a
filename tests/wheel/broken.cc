// The corpus: for each way that a wheel can be broken, a wheel that is.
#include "broken.h"

#include "wheel/core/digest.h"

namespace clary::tool::test {
namespace {

std::string repeat(const std::string& text, int n) {
  std::string out;
  while (n-- > 0) out += text;
  return out;
}

// 2,000 section headers over the same 100 kB: 200 MB to whoever reads each.
std::string overlapping_sections() {
  ElfSpec spec = module_spec();
  spec.sections = {{".rodata", std::string(100'000, 'r')}};
  std::string elf = make_elf(spec);
  const auto number = [&](size_t at, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = bytes; i-- > 0;) value = value << 8 | static_cast<uint8_t>(elf[at + i]);
    return value;
  };
  const size_t table = number(40, 8), count = number(60, 2);
  std::string rows = elf.substr(table, count * 64);
  for (size_t i = 1; i < count; i++) {
    if (number(table + i * 64 + 32, 8) < 100'000) continue;
    while (rows.size() < 2000 * 64) rows += elf.substr(table + i * 64, 64);
  }
  const uint64_t moved = elf.size(), rows_count = rows.size() / 64;
  for (size_t i = 0; i < 8; i++) elf[40 + i] = static_cast<char>(moved >> (8 * i));
  for (size_t i = 0; i < 2; i++) elf[60 + i] = static_cast<char>(rows_count >> (8 * i));
  return elf + rows;
}

// 3,000 symbols whose names all begin within one string of 50 kB: 150 MB to whoever copies each.
std::string overlapping_names() {
  ElfSpec spec = module_spec();
  const std::string name(50'000, 'n');
  for (int i = 0; i < 3000; i++) spec.symbols.push_back({.name = name});
  return make_elf(spec);
}

// A wheel with one module, changed by `change`; tags and names as a build makes them.
template <class Change>
Broken library(const char* rule, Change change, const std::string& policy = "", WheelSpec spec = {}) {
  ElfSpec elf = module_spec();
  change(elf);
  spec.files.push_back({"demo/_C.so", make_elf(elf)});
  return {rule, spec.file_name(), make_wheel(spec), policy, {}};
}

Broken gpu(const char* rule, const std::vector<std::vector<ImageSpec>>& modules, const std::string& policy = "") {
  return library(
      rule,
      [&](ElfSpec& elf) {
        std::string section;
        for (const auto& images : modules) section += make_fatbin(images);
        elf.sections = {{".nv_fatbin", section}};
      },
      policy);
}

template <class Change>
Broken zip(const char* rule, Change change) {
  WheelSpec spec;
  change(spec);
  return wheel(rule, spec);
}

std::string record_of(const std::string& rows) { return rows + "demo-1.0.dist-info/RECORD,,\n"; }

void add_archive_cases(std::vector<Broken>& to) {
  Broken renamed = wheel("W1.name", {});
  renamed.file_name = "demo-1.0-cp312-cp312-linux_x86_64 (1).whl";
  to.push_back(renamed);
  renamed = wheel("W1.name", {});
  renamed.file_name = "demo-1.0.0-beta-cp312-cp312-linux_x86_64.whl";
  to.push_back(renamed);
  to.push_back(wheel("W1.info", {.replace = {{"WHEEL", ""}}}));
  to.push_back(wheel("W1.info", {.files = {{"other-1.dist-info/METADATA", "x"}}}));
  renamed = wheel("W1.agree", {});
  renamed.file_name = "demo-1.0+cu128torch2.8.0-cp312-cp312-linux_x86_64.whl";
  to.push_back(renamed);
  renamed = wheel("W1.tag", {});
  renamed.file_name = "demo-1.0-cp312-cp312-manylinux_2_28_x86_64.whl";
  to.push_back(renamed);
  to.push_back(
      wheel("W1.format",
            {.replace = {{"WHEEL", "Wheel-Version: 2.0\nRoot-Is-Purelib: false\nTag: cp312-cp312-linux_x86_64\n"}}}));
  to.push_back(
      wheel("W1.pure",
            {.files = {{"demo/_C.so", make_elf(module_spec())}},
             .replace = {{"WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: cp312-cp312-linux_x86_64\n"}}}));

  to.push_back(wheel("W2.syntax", {.replace = {{"RECORD", "demo/__init__.py\n"}}}));
  to.push_back(
      zip("W2.unlisted", [](WheelSpec& s) { s.unrecorded = {{.name = "demo/extra.py", .content = "y = 2\n"}}; }));
  const std::string row = "demo/__init__.py,sha256=" + base64url(sha256_of(bytes_of("x = 1\n"))) + ",6\n";
  to.push_back(wheel("W2.absent", {.replace = {{"RECORD", record_of(row + "demo/gone.py,sha256=x,1\n")}}}));
  to.push_back(wheel("W2.absent", {.replace = {{"RECORD", record_of(row + row)}}}));
  to.push_back(wheel("W2.hash", {.replace = {{"RECORD", record_of("demo/__init__.py,sha256=AAAA,6\n")}}}));
  to.push_back(wheel("W2.size", {.replace = {{"RECORD", record_of(replace_all(row, ",6", ",7"))}}}));
  to.push_back(wheel("W2.weak", {.replace = {{"RECORD", record_of("demo/__init__.py,md5=AAAA,6\n")}}}));
  to.push_back(wheel("W2.weak", {.replace = {{"RECORD", record_of("demo/__init__.py,,6\n")}}}));

  const auto member = [&](const char* rule, ZipFile file) {
    to.push_back(zip(rule, [&](WheelSpec& s) { s.unrecorded = {file}; }));
  };
  member("W3.absolute", {.name = "/etc/cron.d/x", .content = "x"});
  member("W3.traversal", {.name = "demo/../../../.bashrc", .content = "x"});
  member("W3.name", {.name = "demo\\x.py", .content = "x"});
  member("W3.link", {.name = "demo/l", .content = "/etc/passwd", .mode = 0120777});
  member("W3.duplicate", {.name = "demo/__init__.py", .content = "evil"});
  member("W3.case", {.name = "demo/__INIT__.py", .content = "x"});
  member("W3.local", {.name = "demo/a.py", .content = "x", .local_name = "demo/b.py"});
  member("W3.overlap", {.name = "demo/a.py", .content = "x", .central_offset = 0});
  member("W3.method", {.name = "demo/a.py", .content = "x", .method = 93});
  member("W3.bomb", {.name = "demo/a.bin", .content = "x", .local_size = 2'000'000'000, .central_size = 2'000'000'000});
  member("W3.data", {.name = "demo/a.bin", .content = "some data that is packed", .damage = true});
  member("W3.absolute", {.name = "C:/Windows/x.dll", .content = "x"});
  member("W3.traversal", {.name = "..", .content = "x"});
  for (const std::string& name :
       {std::string("demo/a\0.py", 9), std::string("demo/\x1b[31m.py"), std::string("demo/\xff.py"),
        std::string("demo//a.py"), std::string("./demo/a.py"), std::string("demo/a."), std::string("demo/a /b.py"),
        std::string(5000, 'a'), "demo" + repeat("/a", 100)})
    member("W3.name", {.name = name, .content = "x"});
  member("W3.link", {.name = "demo/null", .content = "x", .mode = 0020666});
  member("W3.duplicate", {.name = "demo/__init__.py/x.py", .content = "a file and a folder of one name"});
  member("W3.local", {.name = "demo/a.py", .content = "xyz", .local_size = 2});
  member("W3.local", {.name = "demo/a.py", .content = "xyz", .local_crc = 5});
  member("W3.local", {.name = "demo/a.py", .content = "xyz", .flags = 8, .local_crc = 5});
  member("W3.local", {.name = "demo/a.py", .content = "xyz", .method = 0, .local_size = 4, .central_size = 4});
  member("W3.local", {.name = "demo/a.py", .content = "xyz", .central_offset = 3});
  member("W3.method", {.name = "demo/a.py", .content = "x", .flags = 1});  // encrypted
  member("W3.bomb", {.name = "demo/a.bin", .content = "x", .local_size = 0xfffffff0, .central_size = 0xfffffff0});
  to.push_back(zip("W3.gap", [](WheelSpec& s) { s.zip.gap = "gap"; }));
  to.push_back(zip("W3.prefix", [](WheelSpec& s) { s.zip.prefix = "MZ"; }));
  to.push_back(zip("W3.trailing", [](WheelSpec& s) { s.zip.trailing = "more"; }));
  to.push_back(zip("W3.comment", [](WheelSpec& s) { s.zip.comment = "hi"; }));
  to.push_back(zip("W3.structure", [](WheelSpec& s) { s.zip.count_delta = 3; }));
  Broken torn = wheel("W3.structure", {});
  torn.bytes.resize(torn.bytes.size() / 2);
  to.push_back(torn);
}

void add_metadata_cases(std::vector<Broken>& to) {
  to.push_back(wheel("W4.syntax", {.metadata = {"Requires-Dist: torch=>2"}}));
  to.push_back(wheel("W4.syntax", {.metadata = {"Requires-Python: three"}}));
  to.push_back(wheel("W4.syntax", {.metadata = {"Name: another"}}));
  to.push_back(wheel("W4.syntax", {.metadata = {"Requires-Dist: a; extra == 'a'" + repeat(" or extra == 'a'", 5000)}}));
  to.push_back(wheel("W4.torch", {.version = "1.0+cu128torch2.8.0"}));
  to.push_back(wheel("W4.torch", {.version = "1.0+cu128torch2.8.0", .metadata = {"Requires-Dist: torch>=2.8"}}));
  to.push_back(library("W4.torch", [](ElfSpec& e) { e.symbols.push_back(torch_cxx()); }));
  to.push_back(wheel("W4.disagree", {.version = "1.0+cu128torch2.8.0", .metadata = {"Requires-Dist: torch==2.7.*"}}));
  to.push_back(wheel("W5.local", {.version = "1.0+cu128"}, "local-version = \"forbid\""));
  to.push_back(wheel("W6.script", {.files = {{"demo-1.0.data/scripts/python", "#!x\n"}}}));
  to.push_back(wheel("W6.pth", {.files = {{"demo.pth", "import os\n"}}}));
  to.push_back(wheel("W6.bytecode", {.files = {{"demo/__pycache__/a.cpython-312.pyc", "x"}}}));
  to.push_back(wheel("S1.size", {.files = {{"demo/a", std::string(5000, 'a')}}}, "max-size = \"200 B\""));
  to.push_back(wheel("S2.token", {.files = {{"demo/.env", "HF_TOKEN=hf_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789\n"}}}));
  to.push_back(
      library("S2.path", [](ElfSpec& e) { e.sections = {{".rodata", std::string("/home/ann/build/demo.cu\0", 24)}}; }));
}

void add_library_cases(std::vector<Broken>& to) {
  to.push_back(wheel("E1.broken", {.files = {{"demo/_C.so", make_elf(module_spec()).substr(0, 200)}}}));
  to.push_back(wheel("E1.broken", {.files = {{"demo/_C.so", overlapping_sections()}}}));
  to.push_back(wheel("E1.broken", {.files = {{"demo/_C.so", overlapping_names()}}}));
  to.push_back(
      wheel("E1.broken", {.files = {{"demo/_C.pyd", make_pe({.imports = {{"a.dll", {"b"}}}}).substr(0, 700)}}}));
  to.push_back(library("E1.machine", [](ElfSpec& e) { e.machine = 183; }));
  to.push_back(library("E1.any", [](ElfSpec&) {}, "", {.tag = "py3-none-any"}));
  to.push_back(library("E1.textrel", [](ElfSpec& e) { e.text_relocations = true; }));
  to.push_back(library("E1.stack", [](ElfSpec& e) { e.executable_stack = true; }));
  to.push_back(library("E1.relro", [](ElfSpec& e) { e.relro = false; }));
  to.push_back(library("E1.runpath", [](ElfSpec& e) { e.rpath = "$ORIGIN:/opt/build/lib"; }));
  to.push_back(library("E2.needed", [](ElfSpec& e) { e.needed.push_back("libtbb.so.12"); }));
  to.push_back(library("E2.needed", [](ElfSpec& e) { e.needed.push_back("libcudart.so.12"); }, "providers = []"));
  to.push_back(library("E2.path", [](ElfSpec& e) { e.needed.push_back("/opt/x/liby.so"); }));
  to.push_back(wheel("E2.grafted", {.files = {{"demo.libs/libcudart-3f3c6934.so.12", make_elf({})}}}));
  to.push_back(wheel("E2.grafted", {.files = {{"demo.libs/libcudart.3eda8113.so.13", make_elf({})}}}));
  to.push_back(wheel("E2.grafted", {.files = {{"demo.libs/libcuda.so.1", make_elf({})}}}));
  const WheelSpec many = {.tag = "cp312-cp312-manylinux_2_17_x86_64"};
  const auto symbol = [](const char* version, const char* lib) {
    return [=](ElfSpec& e) {
      e.needed.push_back(lib);
      e.symbols.push_back({.name = "f", .version = version, .library = lib});
    };
  };
  to.push_back(library("E3.version", symbol("GLIBC_2.32", "libc.so.6"), "", many));
  to.push_back(library("E3.version", symbol("GLIBCXX_3.4.29", "libstdc++.so.6"), "", many));
  to.push_back(library("E3.version", symbol("GLIBC_PRIVATE", "libc.so.6"), "", many));
  to.push_back(library("E3.version", symbol("GLIBC_2.32", "libc.so.6"), "manylinux = \"manylinux_2_28\""));
  to.push_back(library("E3.untagged", [](ElfSpec&) {}));
  to.push_back(library("E3.strict", [](ElfSpec&) {}, "", {.tag = "cp312-cp312-manylinux_2_28_x86_64"}));
  to.push_back(library(
      "E4.symbol",
      [](ElfSpec& e) {
        e.symbols.push_back({.name = "__cxa_thread_atexit_impl", .version = "GLIBC_2.17", .library = "libc.so.6"});
      },
      "", many));
  to.push_back(library("E4.isa", [](ElfSpec& e) { e.isa = 4; }));
  to.push_back(library("E5.unversioned", [](ElfSpec& e) { e.symbols.push_back({.name = "_ZNSt8ios_base4InitC1Ev"}); }));
}

void add_symbol_cases(std::vector<Broken>& to) {
  to.push_back(library("T1.torch", [](ElfSpec& e) { e.symbols.push_back(torch_cxx()); }, "torch = \"none\""));
  to.push_back(library("T2.cxx", [](ElfSpec& e) { e.symbols.push_back(torch_cxx()); }, "torch = \"stable-2.10\""));
  to.push_back(library(
      "T2.newer", [](ElfSpec& e) { e.symbols.push_back({.name = "torch_call_dispatcher"}); },
      "torch = \"stable-2.9\""));
  to.push_back(library("T2.newer", [](ElfSpec& e) { e.symbols.push_back({.name = "torch_call_dispatcher"}); }, "",
                       {.metadata = {"Requires-Dist: torch>=2.8"}}));
  to.push_back(library(
      "T2.unknown", [](ElfSpec& e) { e.symbols.push_back({.name = "aoti_torch_made_up"}); },
      "torch = \"stable-2.10\""));
  Broken missing = library("T3.missing", [](ElfSpec& e) { e.symbols.push_back(torch_cxx()); });
  missing.disk = {{"torch/lib/libtorch_cpu.so", make_elf({.symbols = {{.name = "_ZN3c105otherEv", .defined = true}}})}};
  to.push_back(missing);
  const char *modern = "_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE",
             *old = "_ZN3c106detail14torchCheckFailEPKcS2_jRKSs";
  to.push_back(library("T4.abi", [&](ElfSpec& e) {
    e.symbols.push_back(torch_cxx(modern));
    e.symbols.push_back(torch_cxx(old));
  }));
  to.push_back(library("T4.abi", [&](ElfSpec& e) { e.symbols.push_back(torch_cxx(modern)); }, "",
                       {.version = "1.0+cu124torch2.5.1"}));
  to.push_back(library("T4.abi", [&](ElfSpec& e) { e.symbols.push_back(torch_cxx(old)); }, "",
                       {.version = "1.0+cu128torch2.8.0"}));
  const WheelSpec abi3 = {.tag = "cp39-abi3-linux_x86_64"};
  to.push_back(library("P1.abi3", [](ElfSpec& e) { e.symbols.push_back({.name = "_PyObject_GetState"}); }, "", abi3));
  to.push_back(library("P1.newer", [](ElfSpec& e) { e.symbols.push_back({.name = "PyType_GetName"}); }, "", abi3));
  to.push_back(library("P1.none", [](ElfSpec&) {}, "", {.tag = "py3-none-linux_x86_64"}));
  to.push_back(wheel("P1.init", {.files = {{"demo/_C.cpython-312-x86_64-linux-gnu.so", make_elf({})}}}));
  to.push_back(wheel("P1.suffix", {.files = {{"demo/_C.cpython-311-x86_64-linux-gnu.so", make_elf(module_spec())}}}));
  to.push_back(library("P1.libpython", [](ElfSpec& e) { e.needed.push_back("libpython3.12.so.1.0"); }));
}

void add_gpu_cases(std::vector<Broken>& to) {
  to.push_back(library("F1.broken",
                       [](ElfSpec& e) { e.sections = {{".nv_fatbin", make_fatbin({{.sm = 80}}).substr(0, 400)}}; }));
  to.push_back(gpu("F1.missing", {{{.sm = 80}, {.sm = 90, .feature = 'a'}}}, "require-sass = [\"8.0\", \"12.0\"]"));
  to.push_back(gpu("F2.uneven", {{{.sm = 80}, {.sm = 90}}, {{.sm = 80}, {.sm = 90}}, {{.sm = 80}}}));
  to.push_back(gpu("F3.locked", {{{.sm = 120, .feature = 'a'}, {.kind = 'p', .sm = 120, .feature = 'a'}}}));
  to.push_back(gpu("F3.fallback", {{{.sm = 80}, {.kind = 'p', .sm = 90, .feature = 'a'}}}, "require-ptx = \"plain\""));
  to.push_back(gpu("F4.ptx", {{{.sm = 80}, {.kind = 'p', .sm = 80, .isa = "9.0"}}}, "driver = \"525.60.13\""));
  to.push_back(gpu("F4.ptx", {{{.kind = 'p', .sm = 80, .isa = "12.9"}}}, "driver = \"999\""));  // newer than any known
  to.push_back(gpu("F4.toolkit", {{{.sm = 80, .toolkit = "13.0.88"}}}, "driver = \"570.26\""));
  to.push_back(gpu("F5.packing", {{{.sm = 80, .packing = 'z'}}}, "driver = \"535.54.03\""));
  to.push_back(gpu("F5.raw", {{{.sm = 80, .padding = 1'500'000}}}));
  to.push_back(gpu("F6.twice", {{{.sm = 80}, {.sm = 80}}}));
  to.push_back(gpu("F6.dead", {{{.sm = 80}, {.sm = 90}}}, "[[dead]]\nmatch = \"*_C*\"\nonly = [\"9.0\"]"));
  to.push_back(gpu("F7.stray", {{{.sm = 80}, {.sm = 90}}, {{.sm = 80}, {.sm = 90}}, {{.sm = 52}}}));
}

}  // namespace

Broken wheel(const char* rule, const WheelSpec& spec, const std::string& policy) {
  return {rule, spec.file_name(), make_wheel(spec), policy, {}};
}

SymbolSpec torch_cxx(const std::string& name) { return {.name = name}; }

FileFindings judge(const Broken& c) {
  MemoryWorld world;
  world.disk.files["d/" + c.file_name] = c.bytes;
  for (const auto& [path, content] : c.disk) world.disk.files[path] = content;
  const Result<FileFacts> facts = read_facts(world.ctx, "d/" + c.file_name, {.digests = true, .threads = 2});
  EXPECT_TRUE(facts) << c.rule;
  const Result<Policy> policy = c.policy.empty() ? load_policy(world.ctx, "default") : parse_policy(c.policy, "test");
  EXPECT_TRUE(policy) << c.rule << ": " << policy.error().message;
  Against against;
  if (!c.disk.empty()) against = *load_torch_exports(world.ctx, "torch");
  return verify_facts(*facts, *policy, against);
}

Strings ids(const FileFindings& found) {
  Strings out;
  for (const Finding& f : found.findings) out.push_back(f.rule->id);
  return out;
}

std::vector<Broken> broken_wheels() {
  std::vector<Broken> all;
  add_archive_cases(all);
  add_metadata_cases(all);
  add_library_cases(all);
  add_symbol_cases(all);
  add_gpu_cases(all);
  return all;
}

}  // namespace clary::tool::test
