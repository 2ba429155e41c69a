"""Upstream's quantisers into tensors of the caller's: int8 codes of Q and K with their scales, FP8 codes of V.

What they make is what the kernels of the _qattn modules take. Layouts: 0 is NHD, 1 is HND; scales are f32 [B, H, n], one
for each group of rows that docs/sageattention.md names.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Of each 16 tokens of V, in the order of storage.
ORDER = (0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15)
FP8 = torch.float8_e4m3fn


def heads_first(x: Tensor, layout: int) -> Tensor:
    return x if layout else x.transpose(1, 2)


def quantise(x: Tensor, groups: Tensor, codes: Tensor, scales: Tensor) -> None:
    """x and codes [B, H, L, D]; groups [L]: the scale of each row."""
    largest = x.abs().amax(-1)
    scales.zero_().scatter_reduce_(2, groups.expand(largest.shape), largest, "amax").clamp_(min=1e-7).div_(127)
    codes.copy_((x / scales[:, :, groups, None]).round().clamp(-127, 127))


def rows(x: Tensor, layout: int) -> Tensor:
    """0, 1, ... of its tokens."""
    return torch.arange(heads_first(x, layout).shape[2], device=x.device)


def quant_per_block_int8_cuda(x: Tensor, codes: Tensor, scales: Tensor, *rest: Any) -> None:
    """rest: sm_scale, which multiplies x first, or nothing; rows of a block; layout."""
    *factor, block, layout = rest
    x32 = heads_first(x, layout).float() * (factor[0] if factor else 1.0)
    quantise(x32, rows(x, layout) // block, heads_first(codes, layout), scales)


def quant_per_block_int8_fuse_sub_mean_cuda(
    x: Tensor, mean: Tensor, codes: Tensor, scales: Tensor, block: int, layout: int
) -> None:
    """mean [B, H, D] is subtracted first."""
    x32 = heads_first(x, layout).float() - mean.float()[:, :, None]
    quantise(x32, rows(x, layout) // block, heads_first(codes, layout), scales)


def quant_per_warp_int8_cuda(x: Tensor, codes: Tensor, scales: Tensor, block: int, warp: int, layout: int) -> None:
    quantise(heads_first(x, layout).float(), rows(x, layout) // warp, heads_first(codes, layout), scales)


def sub_mean_cuda(x: Tensor, mean: Tensor, out: Tensor, layout: int) -> None:
    """out = x - mean [B, H, D]"""
    heads_first(out, layout).copy_(heads_first(x, layout).float() - mean.float()[:, :, None])


def transpose_pad_permute_cuda(x: Tensor, out: Tensor, layout: int) -> None:
    """out [B, H, D, L'] (HND) or [B, D, H, L'] (NHD), tokens in the kernels' order, zeros past L."""
    x = heads_first(x, layout)
    padded = torch.nn.functional.pad(x.transpose(2, 3), (0, out.shape[3] - x.shape[2]))
    order = torch.tensor(ORDER, device=x.device)
    heads_first(out, layout).copy_(padded.unflatten(3, (-1, 16))[..., order].flatten(3))


def scale_fuse_quant_cuda(x: Tensor, out: Tensor, scales: Tensor, tokens: int, scale_max: float, layout: int) -> None:
    """scales [B, H, D], of each channel's largest magnitude over scale_max."""
    x32 = heads_first(x, layout).float()
    scales.copy_(x32.abs().amax(3).clamp(min=1e-30) / scale_max)
    heads_first(out, layout).copy_((x32 / scales[..., None]).clamp(-448, 448).to(FP8))


def mean_scale_fuse_quant_cuda(
    x: Tensor, out: Tensor, mean: Tensor, scales: Tensor, tokens: int, scale_max: float, layout: int
) -> None:
    """The same of x less its mean [B, H, D] over the tokens."""
    x32 = heads_first(x, layout).float()
    mean.copy_(x32.sum(3) / tokens)
    heads_first(x, layout).copy_(x32 - mean[..., None])
    scale_fuse_quant_cuda(x, out, scales, tokens, scale_max, layout)
