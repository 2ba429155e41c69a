// What a source tree says about itself, in the ways that people's setup.py say it.
#include "wheel/core/scan.h"

#include "support.h"
#include "wheel/core/recipe.h"

namespace clary::tool::test {
namespace {

SourceFacts facts_of(const std::string& setup) {
  MemoryWorld world;
  world.disk.files["/s/setup.py"] = setup;
  world.disk.files["/s/a.cu"] = "__global__ void k() {}\n";
  return *scan_source(world.ctx, "/s");
}

// Extensions with names before setup()'s own; versions of CUDA that look like architectures; plain and `a` code of one GPU.
TEST(Scan, ManyExtensionsAndVersionChecks) {
  const SourceFacts f = facts_of(
      "from torch.utils.cpp_extension import CUDAExtension\nfrom setuptools import setup\n"
      "SUPPORTED = {\"8.0\", \"9.0\", \"12.0\"}\nif cuda < Version(\"12.3\") or parse(out) < parse('12.8'): pass\n"
      "flags = [\"arch=compute_90a,code=sm_90a\", \"12.4\"]\n"
      "a = CUDAExtension(\n    name=\"demo._sm80\", sources=[])\nb = CUDAExtension(name=\"demo._sm90\", sources=[])\n"
      "setup(\n    name='demo',\n    version='2.2.0',\n    ext_modules=[a, b],\n    python_requires='>=3.9',\n)\n");
  EXPECT_EQ(f.name, "demo");
  EXPECT_EQ(f.version, "2.2.0");
  EXPECT_EQ(f.requires_python, ">=3.9");
  EXPECT_EQ(join(f.archs, " "), "8.0 9.0a 12.0");
  EXPECT_EQ(join(f.modules, " "), "demo._sm80 demo._sm90");
  EXPECT_TRUE(parse_recipe(recipe_text(f, "3.12"), "clary.toml"));
}

TEST(Scan, ANameThatIsAVariable) {
  const SourceFacts f = facts_of(
      "import setuptools, subprocess\nPACKAGE_NAME = \"demo\"\nsubprocess.run([\"git\", \"clone\", URL])\n"
      "ext = CUDAExtension(name=\"demo_cuda\", sources=[])\n"
      "setuptools.setup(name=PACKAGE_NAME, version=\"1.0.0\", ext_modules=[ext])\n");
  EXPECT_EQ(f.name, "demo");
  EXPECT_NE(join(f.notes, "\n").find("fetches sources by git"), std::string::npos);
}

}  // namespace
}  // namespace clary::tool::test
