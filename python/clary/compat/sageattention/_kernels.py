"""Upstream's attention kernels on its own quantised tensors: their values are restored, then the engine attends.

The codes cost accuracy here and save no time: clary quantises again. Callers that only want less memory than q, k and v in
16 bits keep what they had; others call clary.attention.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._serve import serve
from . import _fused

_LOG2_E = 1.44269504
_PER_WARP, _PER_THREAD = 2, 3


def kernel(name: str, accuracy: str, block_q: int, block_k: int) -> Callable[..., Tensor]:
    """(q, k, v, out, q_scale, k_scale[, v_scale[, v_mean]], layout, is_causal, granularity, sm_scale, return_lse) -> lse.

    lse is in powers of two and of the codes, as upstream's: the caller adds what it subtracted from k.
    """

    def function(q: Tensor, k: Tensor, v: Tensor, out: Tensor, q_scale: Tensor, k_scale: Tensor, *rest: Any) -> Tensor:
        *of_v, layout, is_causal, granularity, sm_scale, return_lse = rest
        if granularity not in (_PER_WARP, _PER_THREAD):
            raise ValueError(f"{name}: granularity is {granularity}. Use 2, a warp, or 3, a thread.")
        lanes = (1, 1) if granularity == _PER_WARP else (8, 4)
        dtype = v.dtype if v.dtype in (torch.float16, torch.bfloat16) else out.dtype
        q = _restore(_fused.heads_first(q, layout), q_scale, block_q, lanes[0], dtype)
        k = _restore(_fused.heads_first(k, layout), k_scale, block_k, lanes[1], dtype)
        v = _restore_v(v, of_v, layout, k.shape[2], dtype)
        answer = serve(
            q, k, v, accuracy, causal=bool(is_causal), scale=sm_scale, return_lse=bool(return_lse),
            out=_fused.heads_first(out, layout),
        )  # fmt: skip
        return answer[1] * _LOG2_E if return_lse else out.new_empty(0, dtype=torch.float32)

    function.__name__ = function.__qualname__ = name
    return function


def forward(is_causal: bool) -> Callable[..., tuple[Tensor, Tensor]]:
    """Of a Triton module, on per-block codes whose q has sm_scale and log2(e) in it."""

    def function(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        q_scale: Tensor,
        k_scale: Tensor,
        tensor_layout: str = "HND",
        attn_mask: Tensor | None = None,
        output_dtype: torch.dtype = torch.float16,
        return_lse: bool = False,
    ) -> tuple[Tensor, Tensor]:
        layout = int(tensor_layout == "HND")
        v = _fused.heads_first(v, layout)
        q = _restore(_fused.heads_first(q, layout), q_scale, 128, 1, v.dtype)
        k = _restore(_fused.heads_first(k, layout), k_scale, 64, 1, v.dtype)
        words = {"causal": is_causal, "scale": 1 / _LOG2_E, "mask": attn_mask, "return_lse": True}
        out, lse = serve(q, k, v, "high", **words)
        out = _fused.heads_first(out, layout).contiguous().to(output_dtype)
        return out, lse * _LOG2_E if return_lse else lse.new_empty(0)

    function.__name__ = function.__qualname__ = "forward"
    return function


def _restore(codes: Tensor, scales: Tensor, block: int, lanes: int, dtype: torch.dtype) -> Tensor:
    """codes [B, H, L, D] times their scales [B, H, n], of `lanes` for each run of rows."""
    tokens, n = codes.shape[2], scales.shape[2]
    padded = -(-tokens // block) * block
    if n % lanes or not n or padded * lanes % n:
        raise ValueError(f"scales of shape {list(scales.shape)} do not fit {tokens} rows in blocks of {block}.")
    run, row = padded * lanes // n, torch.arange(tokens, device=codes.device)
    lane = {1: row * 0, 4: row % 8 // 2, 8: row % 8}[lanes]
    return (codes.float() * scales[:, :, row // run * lanes + lane, None]).to(dtype)


def _restore_v(v: Tensor, of_v: list[Tensor], layout: int, tokens: int, dtype: torch.dtype) -> Tensor:
    """[B, H, L, D], from FP8 with scales or 16 bits without, and a mean after either."""
    v = _fused.heads_first(v, layout)
    if v.dtype == _fused.FP8:
        order = torch.tensor(_fused.ORDER, device=v.device).argsort()
        v = v.float().unflatten(3, (-1, 16))[..., order].flatten(3)[..., :tokens].transpose(2, 3)
        scale, of_v = (of_v[0], of_v[1:]) if of_v else (v.new_ones(1, 1, 1), of_v)
        v = v * scale[:, :, None]
    if of_v:
        v = v.float() + of_v[0].float()[:, :, None]
    return v.to(dtype)
