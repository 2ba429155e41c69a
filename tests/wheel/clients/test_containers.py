"""clary build in a real container: podman, and an image that builder_image.sh makes of Debian's packages.

CLARY_TEST_PODMAN names another podman (docker serves, too), CLARY_TEST_IMAGE another image; both are skipped by name where missing.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest
from conftest import Clary

PODMAN = os.environ.get("CLARY_TEST_PODMAN") or shutil.which("podman") or ""
IMAGE = os.environ.get("CLARY_TEST_IMAGE", "localhost/clary-builder:debian12")
RECIPE = """
[package]
name = "boxed"
version = "1.0"
[matrix]
python = ["3.11"]
torch-abi = "none"
[build]
cuda = "no"
requires = ["setuptools>=77", "wheel"]
env = { BOXED_WORD = "a $PATH \\"b\\"", BOXED_PLACES = "{source}:{environment}" }
settings = { --global-option = "--quiet" }
"""
SETUP = """
import os, socket
from setuptools import Extension, setup

try:
    socket.create_connection(("192.0.2.1", 80), 0.2)
    network = "on"
except OSError as error:
    network = "off" if error.errno == 101 else "on"  # no route at all
words = [os.environ["BOXED_WORD"], os.environ["BOXED_PLACES"], network, os.getcwd()]
open("boxed/words.py", "w").write(f"words = {words!r}")
setup(name="boxed", version="1.0", packages=["boxed"], ext_modules=[Extension("boxed._c", ["c.c"])])
"""
CODE = """
#include <Python.h>
static PyObject *twice(PyObject *self, PyObject *x) { return PyNumber_Add(x, x); }
static PyMethodDef methods[] = {{"twice", twice, METH_O, 0}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_c", 0, -1, methods};
PyMODINIT_FUNC PyInit__c(void) { return PyModule_Create(&module); }
"""


@pytest.fixture(scope="module")
def podman() -> str:
    if not PODMAN:
        pytest.skip("no podman here")
    if subprocess.run([PODMAN, "image", "exists", IMAGE], capture_output=True, check=False).returncode:
        pytest.skip(f"no image {IMAGE} here: tests/wheel/clients/builder_image.sh")
    done = subprocess.run(
        [PODMAN, "run", "--rm", "--network=none", IMAGE, "true"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"podman runs nothing here: {done.stderr.strip().splitlines()[-1]}")
    return PODMAN


@pytest.fixture
def sources(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "boxed-source"
    for name, text in {
        "clary.toml": RECIPE,
        "setup.py": SETUP,
        "c.c": CODE,
        "boxed/__init__.py": "from boxed._c import twice\nfrom boxed.words import words\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def named(clary: Clary, program: str, podman: str) -> str:
    """A PATH on which the engine's name is this podman."""
    folder = clary.home / "engine"
    folder.mkdir()
    (folder / program).symlink_to(podman)
    return f"{folder}:{os.path.dirname(sys.executable)}:/usr/sbin:/usr/bin:/sbin:/bin"


def test_a_wheel_from_podman(clary: Clary, podman: str, sources: pathlib.Path, tmp_path: pathlib.Path) -> None:
    path, out = named(clary, "podman", podman), tmp_path / "out"
    build = ("build", "--source", sources, "--out", out, "--engine", "podman", "--base-image", IMAGE)
    said = clary(*build, PATH=path)
    (wheel,) = out.glob("*.whl")
    assert wheel.name == "boxed-1.0-cp311-cp311-linux_x86_64.whl", said
    with zipfile.ZipFile(wheel) as archive:
        scope: dict = {}
        exec(archive.read("boxed/words.py"), scope)
    assert scope["words"] == ['a $PATH "b"', "/src:/opt/python/cp311-cp311", "off", "/src"]
    clary("verify", wheel)
    report = json.loads((out / f"{wheel.name}.build.json").read_text())["build"]
    assert report["state"] == "built"
    assert "up to date" in clary(*build, PATH=path)
    if sys.version_info[:2] == (3, 11):
        module = tmp_path / "site"
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", module, wheel], check=True)
        done = subprocess.run(
            [sys.executable, "-c", "import boxed; print(boxed.twice(21))"],
            env={"PYTHONPATH": str(module)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "42\n"


def test_what_fails_in_podman_is_shown(
    clary: Clary, podman: str, sources: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (sources / "c.c").write_text(CODE + "int wrong = missing;\n")
    path = named(clary, "podman", podman)
    build = ("build", "--source", sources, "--out", tmp_path / "out", "--engine", "podman", "--base-image", IMAGE)
    said = clary(*build, code=1, PATH=path)
    assert "undeclared here (not in a function)" in said
    assert not (tmp_path / "out").exists()


def test_the_plans_dockerfile(clary: Clary, podman: str, sources: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """As a user runs it; podman before 4.5 knows no RUN --network, and the file says so."""
    text = clary("plan", "--recipe", sources / "clary.toml", "--base-image", IMAGE, "--format", "dockerfile")
    assert "podman from 4.5 on" in text
    version = subprocess.run([podman, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    if tuple(map(int, version.split(".")[:2])) < (4, 5):
        text = text.replace("RUN --network=none", "RUN")
    (sources / "Dockerfile").write_text(text)
    out = tmp_path / "wheelhouse"
    subprocess.run(
        [
            podman,
            "build",
            "--env",
            "BOXED_WORD=w",
            "--env",
            "BOXED_PLACES=p",
            "--target",
            "wheel",
            "--output",
            out,
            sources,
        ],
        check=True,
    )
    assert [file.name for file in out.glob("*.whl")] == ["boxed-1.0-cp311-cp311-linux_x86_64.whl"]
