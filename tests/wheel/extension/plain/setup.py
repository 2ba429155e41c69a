"""A CUDA library with a plain C interface: no torch, no Python inside, one wheel for every Python."""

import os
import re
import subprocess

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py


def gencode(archs):
    for arch, ptx in re.findall(r"(\d+\.\d[af]?)(\+PTX)?", archs):
        number = arch.replace(".", "")
        yield f"-gencode=arch=compute_{number},code=sm_{number}"
        if ptx:
            yield f"-gencode=arch=compute_{number},code=compute_{number}"


class BuildLibrary(build_py):
    def run(self):
        super().run()
        folder = os.path.join(self.build_lib, "plain_demo")
        nvcc = os.path.join(os.environ["CUDA_HOME"], "bin", "nvcc")
        flags = ["-shared", "-O2", "-Xcompiler", "-fPIC,-fvisibility=hidden", "-cudart", "static", "-Xlinker", "-z,now"]
        archs = gencode(os.environ["TORCH_CUDA_ARCH_LIST"])
        subprocess.check_call([nvcc, *flags, *archs, "-o", os.path.join(folder, "_plain.so"), "plain_demo/scale.cu"])


class AnyPython(bdist_wheel):
    def get_tag(self):
        return "py3", "none", super().get_tag()[2]


class WithLibrary(Distribution):
    def has_ext_modules(self):
        return True


setup(
    name="plain-demo",
    version="1.0",
    python_requires=">=3.9",
    packages=["plain_demo"],
    cmdclass={"build_py": BuildLibrary, "bdist_wheel": AnyPython},
    distclass=WithLibrary,
)
