"""Upstream's core module: the public functions, and the helpers that programs take from it."""

from __future__ import annotations

import torch

from . import (
    _fused,
    _qattn_sm80,
    _qattn_sm89,
    _qattn_sm90,
    sageattn,
    sageattn_qk_int8_pv_fp8_cuda,
    sageattn_qk_int8_pv_fp8_cuda_sm90,
    sageattn_qk_int8_pv_fp16_cuda,
    sageattn_qk_int8_pv_fp16_triton,
    sageattn_varlen,
    sm80_compile,
    sm89_compile,
    sm90_compile,
)
from .quant import per_block_int8 as per_block_int8_cuda
from .quant import per_channel_fp8, sub_mean
from .quant import per_warp_int8 as per_warp_int8_cuda
from .triton.attn_qk_int8_block_varlen import forward as attn_false_varlen
from .triton.attn_qk_int8_per_block import forward as attn_false
from .triton.attn_qk_int8_per_block_causal import forward as attn_true
from .triton.attn_qk_int8_per_block_causal_varlen import forward as attn_true_varlen
from .triton.quant_per_block import per_block_int8 as per_block_int8_triton
from .triton.quant_per_block_varlen import per_block_int8 as per_block_int8_varlen_triton
from .triton.quant_per_thread import per_thread_int8 as per_thread_int8_triton

__all__ = [
    "SM80_ENABLED",
    "SM89_ENABLED",
    "SM90_ENABLED",
    "_fused",
    "_qattn_sm80",
    "_qattn_sm89",
    "_qattn_sm90",
    "attn_false",
    "attn_false_varlen",
    "attn_true",
    "attn_true_varlen",
    "get_cuda_arch_versions",
    "get_cuda_version",
    "per_block_int8_cuda",
    "per_block_int8_triton",
    "per_block_int8_varlen_triton",
    "per_channel_fp8",
    "per_thread_int8_triton",
    "per_warp_int8_cuda",
    "sageattn",
    "sageattn_qk_int8_pv_fp16_cuda",
    "sageattn_qk_int8_pv_fp16_triton",
    "sageattn_qk_int8_pv_fp8_cuda",
    "sageattn_qk_int8_pv_fp8_cuda_sm90",
    "sageattn_varlen",
    "sm80_compile",
    "sm89_compile",
    "sm90_compile",
    "sub_mean",
]

# Upstream: whether the extension of that compute capability could be imported. Every function here serves every device.
SM80_ENABLED = SM89_ENABLED = SM90_ENABLED = True


def get_cuda_arch_versions() -> list[str]:
    """ "sm90" and so on, of each CUDA device."""
    capabilities = (torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count()))
    return [f"sm{major}{minor}" for major, minor in capabilities]


def get_cuda_version() -> tuple[int | None, int | None]:
    """Of the toolkit torch was built with."""
    if torch.version.cuda is None:
        return None, None
    major, minor = torch.version.cuda.split(".")[:2]
    return int(major), int(minor)
