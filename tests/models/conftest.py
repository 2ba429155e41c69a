"""What the tests of real packages share: bounds, and an account of the calls that reached clary."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests/python"), str(ROOT / "examples")]
os.environ["HF_HUB_OFFLINE"] = "1"  # every weight is made here
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # small tensors: on a busy machine torch's threads would wait for each other

import clary  # noqa: E402


@pytest.fixture(autouse=True)
def _no_calls_yet() -> Iterator[None]:
    clary.stats(reset=True)
    yield


@pytest.fixture
def calls() -> Callable[[], dict[str, int]]:
    """Variants that ran since the last time, by name. Fails where a call that is worth it went elsewhere."""

    def count() -> dict[str, int]:
        stats = clary.stats(reset=True)
        assert not stats["errors"] and not set(stats["fallbacks"]) - {"sdpa: below break-even"}, stats
        return stats["variants"]

    return count


@pytest.fixture
def python() -> Callable[..., str]:
    """Runs code in a fresh interpreter that finds the same clary; what it printed."""

    def run(code: str, **env: str) -> str:
        path = os.pathsep.join([str(Path(clary.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path, **env}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
