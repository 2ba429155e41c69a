"""Attention in float64, slowly and on its own, and the tolerances of tests/numerics.def."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

_DEF = (Path(__file__).parent.parent / "numerics.def").read_text()


def table(macro: str) -> dict[tuple[str, ...], float]:
    rows = re.findall(rf"^{macro}\(([^)]*)\)", _DEF, re.MULTILINE)
    split = [[field.strip() for field in row.split(",")] for row in rows]
    return {tuple(names): float(bound) for *names, bound in split}


BOUND, LSE_BOUND, ROUNDING = table("CLARY_BOUND"), table("CLARY_LSE_BOUND"), table("CLARY_ROUNDING")
GPU_BOUND, GPU_LSE_BOUND = table("CLARY_GPU_BOUND"), table("CLARY_GPU_LSE_BOUND")
GPU = {name: bound for (name,), bound in table("CLARY_GPU").items()}


def use_gpu_bounds() -> None:
    """The GPU's rows, of which `short` holds here: it quantises problems that a CPU would not."""
    for bounds, on_gpu in ((BOUND, GPU_BOUND), (LSE_BOUND, GPU_LSE_BOUND)):
        for accuracy in ("high", "standard", "fast"):
            bounds[accuracy, "normal"] = on_gpu[accuracy, "short"]


def visible(queries: int, keys: int, causal: Any = False, window: Any = None) -> np.ndarray:
    """[Lq, Lk]: what causal and window let a query see."""
    i = np.arange(queries)[:, None] + (keys - queries if causal == "lower_right" else 0)
    j = np.arange(keys)
    left, right = (None, None) if window is None else window if isinstance(window, (tuple, list)) else (window, window)
    seen = np.ones((queries, keys), bool)
    if causal:
        seen &= j <= i
    if left not in (None, -1):
        seen &= j >= i - left
    if right not in (None, -1):
        seen &= j <= i + right
    return seen


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    causal: Any = False,
    scale: float | None = None,
    mask: np.ndarray | None = None,
    kv_lens: Any = None,
    window: Any = None,
) -> tuple[np.ndarray, np.ndarray]:
    """q [B, Hq, Lq, D], k [B, Hkv, Lk, D], v [B, Hkv, Lk, Dv] -> out [B, Hq, Lq, Dv], lse [B, Hq, Lq], all float64."""
    batch, heads, queries, head_dim = q.shape
    out = np.zeros((batch, heads, queries, v.shape[3]))
    lse = np.full((batch, heads, queries), -np.inf)
    mask = None if mask is None else np.broadcast_to(mask, (batch, heads, queries, k.shape[2]))
    for b in range(batch):
        keys = k.shape[2] if kv_lens is None else int(kv_lens[b])
        for h in range(heads):
            group = h * k.shape[1] // heads
            scores = q[b, h] @ k[b, group, :keys].T * (head_dim**-0.5 if scale is None else scale)
            scores = np.where(visible(queries, keys, causal, window), scores, -np.inf)
            if mask is not None:
                bias = mask[b, h, :, :keys]
                scores = np.where(bias, scores, -np.inf) if bias.dtype == bool else scores + bias
            for i in range(queries):
                seen = scores[i] > -np.inf
                if seen.any():
                    top = scores[i, seen].max()
                    weights = np.exp(scores[i, seen] - top)
                    out[b, h, i] = weights @ v[b, group, :keys][seen] / weights.sum()
                    lse[b, h, i] = top + np.log(weights.sum())
    return out, lse


def error(got: np.ndarray, want: np.ndarray) -> float:
    """Relative L2; the absolute one where `want` is zero."""
    norm = float(np.linalg.norm(want))
    return float(np.linalg.norm(got - want)) / (norm or 1.0)


def assert_out(got: np.ndarray, want: np.ndarray, accuracy: str = "standard", dtype: str = "f32") -> None:
    assert got.shape == want.shape
    if want.size:
        assert error(got, want) <= BOUND[accuracy, "normal"] + ROUNDING[(dtype,)]


def assert_lse(got: np.ndarray, want: np.ndarray, accuracy: str = "standard") -> None:
    assert got.shape == want.shape
    blind = np.isneginf(want)
    assert (np.isneginf(got) == blind).all()
    if not blind.all():
        assert np.abs(got[~blind] - want[~blind]).max() <= LSE_BOUND[accuracy, "normal"]
