"""Upstream's quantisers of whole tensors, by the names and shapes that low-memory callers use."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from . import _fused

_LOG2_E = 1.44269504
_LAYOUTS = {"NHD": 0, "HND": 1}


def per_block_int8(
    q: Tensor,
    k: Tensor,
    km: Tensor | None = None,
    BLKQ: int = 128,
    BLKK: int = 64,
    sm_scale: float | None = None,
    tensor_layout: str = "HND",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q int8, its scales [B, Hq, ceil(Lq / BLKQ)], k int8, its scales. q is multiplied by sm_scale and log2(e) first."""
    factor = (q.shape[-1] ** -0.5 if sm_scale is None else sm_scale) * _LOG2_E
    scaled = q.float() * factor
    return *_quantise(scaled, BLKQ, BLKQ, tensor_layout), *_quantise_k(k, km, BLKK, tensor_layout)


def per_warp_int8(
    q: Tensor,
    k: Tensor,
    km: Tensor | None = None,
    BLKQ: int = 128,
    WARPQ: int = 32,
    BLKK: int = 64,
    tensor_layout: str = "HND",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q has one scale for WARPQ rows, k one for BLKK."""
    return *_quantise(q, BLKQ, WARPQ, tensor_layout), *_quantise_k(k, km, BLKK, tensor_layout)


def per_thread_int8(
    q: Tensor,
    k: Tensor,
    km: Tensor | None = None,
    BLKQ: int = 128,
    WARPQ: int = 32,
    BLKK: int = 64,
    WARPK: int = 64,
    sm_scale: float | None = None,
    tensor_layout: str = "HND",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q has 8 scales for WARPQ rows, by row modulo 8; k has 4 for WARPK, by pair of rows modulo 4. sm_scale is unused."""
    if km is not None:
        k = k - km
    return (
        *_quantise(q, BLKQ, WARPQ, tensor_layout, lambda row: row // WARPQ * 8 + row % 8, 8),
        *_quantise(k, BLKK, WARPK, tensor_layout, lambda row: row // WARPK * 4 + row % 8 // 2, 4),
    )


def _quantise(
    x: Tensor,
    block: int,
    warp: int,
    tensor_layout: str,
    group: Callable[[Tensor], Tensor] | None = None,
    lanes: int = 1,
) -> tuple[Tensor, Tensor]:
    """`group` numbers the scale of each row, of which there are `lanes` for `warp` rows."""
    layout = _layout(tensor_layout)
    x4 = _fused.heads_first(x, layout)
    codes = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    scales = x.new_empty((*x4.shape[:2], -(-x4.shape[2] // block) * (block // warp) * lanes), dtype=torch.float32)
    row = _fused.rows(x, layout)
    groups = group(row) if group else row // warp
    _fused.quantise(x4.float(), groups, _fused.heads_first(codes, layout), scales)
    return codes, scales


def _quantise_k(k: Tensor, km: Tensor | None, block: int, tensor_layout: str) -> tuple[Tensor, Tensor]:
    if km is not None:
        tokens = 1 if tensor_layout == "NHD" else 2
        k = k.float() - (km if km.dim() == 4 else km.unsqueeze(tokens)).float()
    codes, scales = _quantise(k, block, block, tensor_layout)
    return codes, scales


def sub_mean(v: Tensor, tensor_layout: str = "HND") -> tuple[Tensor, Tensor]:
    """v less its mean over the tokens, f16, and that mean [B, H, D]."""
    layout = _layout(tensor_layout)
    mean = v.mean(dim=2 if layout else 1)
    out = torch.empty(v.shape, dtype=torch.float16, device=v.device)
    _fused.sub_mean_cuda(v, mean, out, layout)
    return out, mean


def per_channel_fp8(
    v: Tensor, tensor_layout: str = "HND", scale_max: float = 448.0, smooth_v: bool = True
) -> tuple[Tensor, Tensor, Tensor | None]:
    """v in FP8, transposed, padded to 64 tokens and permuted; scales [B, H, D]; the mean that was subtracted, or None."""
    layout = _layout(tensor_layout)
    batch, heads, tokens, dim = _fused.heads_first(v, layout).shape
    padded = -(-tokens // 64) * 64
    shape = (batch, heads, dim, padded) if layout else (batch, dim, heads, padded)
    permuted = v.new_empty(shape)
    _fused.transpose_pad_permute_cuda(v, permuted, layout)
    codes = torch.empty(shape, dtype=_fused.FP8, device=v.device)
    scales, mean = (v.new_empty((batch, heads, dim), dtype=torch.float32) for _ in range(2))
    if smooth_v:
        _fused.mean_scale_fuse_quant_cuda(permuted, codes, mean, scales, tokens, scale_max, layout)
        return codes, scales, mean
    _fused.scale_fuse_quant_cuda(permuted, codes, scales, tokens, scale_max, layout)
    return codes, scales, None


def _layout(name: str) -> int:
    if name not in _LAYOUTS:
        raise ValueError(f"tensor_layout is {name!r}. Use 'HND' or 'NHD'.")
    return _LAYOUTS[name]
