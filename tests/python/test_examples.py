"""The examples of the drop-in run, say what served them, and stay short enough to be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LINES = 60


@pytest.mark.parametrize("name", ["enable_sageattention", "enable_sdpa"])
def test_example(python: Any, name: str) -> None:
    pytest.importorskip("torch")
    path = EXAMPLES / f"{name}.py"
    assert len(path.read_text().splitlines()) < LINES
    done = python(str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cpu:" in done.stdout
