"""Importing clary is fast, imports nothing large, and needs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import clary

LIMIT_MS = 30
PACKAGE = Path(clary.__file__).parent


def test_import_time(python: Any) -> None:
    def milliseconds() -> float:
        # CPU time: what the import costs, whatever else the machine is doing.
        done = python("-c", "import time; t = time.process_time(); import clary; print(time.process_time() - t)")
        assert done.returncode == 0, done.stderr
        return float(done.stdout) * 1000

    best = min(milliseconds() for _ in range(5))
    print(f"import clary: {best:.1f} ms")
    assert best < LIMIT_MS


def test_import_brings_nothing_large(python: Any) -> None:
    code = "import clary, sys; print(sorted({'numpy', 'torch', 'ctypes', 'inspect', 'asyncio'} & set(sys.modules)))"
    assert python("-c", code).stdout == "[]\n"


def test_info_needs_neither_numpy_nor_torch(python: Any) -> None:
    code = "import clary, sys; clary.info(); clary.stats(); print(sorted({'numpy', 'torch'} & set(sys.modules)))"
    assert python("-c", code).stdout == "[]\n"


def test_without_a_library(python: Any) -> None:
    code = """
import clary, numpy
assert clary.__version__ and clary.stats()["calls"] == 0
x = numpy.ones((1, 1, 1, 8), numpy.float32)
for call in (lambda: clary.attention(x, x, x), lambda: clary.explain(x, x, x), clary.info, lambda: clary.set_threads(1)):
    try:
        call()
    except RuntimeError as error:
        assert "CLARY_LIBRARY" in str(error), error
    else:
        raise AssertionError("no error")
assert clary.stats()["errors"] == {"RuntimeError": 1}
assert not clary.doctor()
"""
    done = python("-c", code, CLARY_LIBRARY="/nowhere/libclary.so")
    assert done.returncode == 0, done.stderr


def test_version() -> None:
    assert clary.__version__ == clary.info()["version"]


def test_names() -> None:
    assert all(callable(getattr(clary, name)) for name in clary.__all__)
    with pytest.raises(AttributeError):
        clary.atention  # noqa: B018


def test_typed() -> None:
    assert (PACKAGE / "py.typed").exists()
