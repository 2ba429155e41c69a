"""The kinds of arrays that the tests run on, behind one small interface, and inputs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import reference

import clary


class NumPy:
    name, device = "numpy", "cpu"
    tight = "exact"  # the most accurate word that the library serves there
    _types = {"f32": np.float32, "f16": np.float16}

    def array(self, x: Any, dtype: str = "f32") -> Any:
        return np.asarray(x).astype(self._types[dtype])

    def raw(self, x: Any) -> Any:
        """Of x's own dtype."""
        return np.asarray(x)

    def back(self, x: Any) -> np.ndarray:
        """float64."""
        return x.astype(np.float64)

    def bits(self, x: Any) -> bytes:
        return x.tobytes()

    def swap(self, x: Any) -> Any:
        """The view with heads and tokens exchanged."""
        return x.swapaxes(-3, -2)

    def contiguous(self, x: Any) -> bool:
        return x.flags.c_contiguous

    def empty(self, shape: Any, dtype: str) -> Any:
        return np.full(shape, 7, self._types[dtype])


class Torch:
    name = "torch"

    def __init__(self, device: str = "cpu") -> None:
        import torch

        self.torch, self.device = torch, device
        self.tight = "standard" if device == "cuda" else "exact"
        self._types = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}

    def array(self, x: Any, dtype: str = "f32") -> Any:
        return self.torch.tensor(np.asarray(x), device=self.device).to(self._types[dtype])

    def raw(self, x: Any) -> Any:
        return self.torch.tensor(np.asarray(x), device=self.device)

    def back(self, x: Any) -> np.ndarray:
        return x.double().cpu().numpy()

    def bits(self, x: Any) -> bytes:
        return x.contiguous().view(self.torch.uint8).cpu().numpy().tobytes()

    def swap(self, x: Any) -> Any:
        return x.transpose(-3, -2)

    def contiguous(self, x: Any) -> bool:
        return x.is_contiguous()

    def empty(self, shape: Any, dtype: str) -> Any:
        return self.torch.full(shape, 7, dtype=self._types[dtype], device=self.device)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--gpu", action="store_true", help="torch tensors are CUDA tensors; every call runs our kernels")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("gpu"):
        reference.use_gpu_bounds()
        clary.policy(never_slower=False)


@pytest.fixture(params=["numpy", "torch"])
def kind(request: pytest.FixtureRequest) -> Any:
    gpu = request.config.getoption("gpu")
    if request.param == "numpy":
        if gpu:
            pytest.skip("NumPy arrays are not on a GPU")
        return NumPy()
    pytest.importorskip("torch")
    return Torch("cuda" if gpu else "cpu")


def qkv(
    batch: int = 2, heads: int = 4, kv_heads: int = 2, queries: int = 33, keys: int = 65, dim: int = 40, v_dim: int = 24
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = ((batch, heads, queries, dim), (batch, kv_heads, keys, dim), (batch, kv_heads, keys, v_dim))
    q, k, v = (rng.standard_normal(shape) for shape in shapes)
    return q, k, v


@pytest.fixture(name="qkv")
def _qkv() -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """q [B, Hq, Lq, D], k [B, Hkv, Lk, D], v [B, Hkv, Lk, Dv], normal, float64."""
    return qkv


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a fresh interpreter that finds the same clary."""

    def run(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
        path = str(Path(clary.__file__).parent.parent)
        environment = {**os.environ, "PYTHONPATH": path, **env}
        return subprocess.run([sys.executable, *args], capture_output=True, text=True, env=environment, timeout=120)

    return run
