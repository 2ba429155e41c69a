"""A torch extension as many are written: it passes an old C++ standard, and wants to see a GPU while it compiles.

Both are on purpose: `clary build` explains them, and `--fix` repairs them in its copy.
"""

import torch
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

if torch.cuda.device_count() == 0:
    raise RuntimeError("No GPUs found. Please specify the target GPU architectures or build on a machine with GPUs.")
print("building for", [torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())])

setup(
    name="torch-demo",
    version="1.0",
    packages=["torch_demo"],
    ext_modules=[
        CUDAExtension(
            "torch_demo._C",
            ["torch_demo/binding.cc", "torch_demo/scale.cu"],
            extra_compile_args={"cxx": ["-O2", "-std=c++17"], "nvcc": ["-O2", "-std=c++17"]},
        )
    ],
    cmdclass={"build_ext": BuildExtension},
)
