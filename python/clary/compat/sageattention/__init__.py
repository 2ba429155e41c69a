"""SageAttention's public functions on clary: its names, positions, keywords and defaults.

Every argument is honoured, or refused before anything runs: docs/sageattention.md has the table. Upstream's functions
swallow unknown keywords; here attn_mask and the words of torch's scaled_dot_product_attention and of FlashAttention do
what they say, and an unknown one is a TypeError. Importing this imports neither torch nor a device library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._serve import dense, requires_qkv

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "sageattn",
    "sageattn_qk_int8_pv_fp16_cuda",
    "sageattn_qk_int8_pv_fp16_triton",
    "sageattn_qk_int8_pv_fp8_cuda",
    "sageattn_qk_int8_pv_fp8_cuda_sm90",
    "sageattn_varlen",
]
__version__ = "2.2.0"  # the interface's

_GRANULARITY = ("per_thread", "per_warp")
_FP16, _FP8 = ("fp32", "fp16", "fp16+fp32"), ("fp32", "fp32+fp32", "fp32+fp16")


@requires_qkv
def sageattn(
    q: Tensor = None,
    k: Tensor = None,
    v: Tensor = None,
    tensor_layout: str = "HND",
    is_causal: bool = False,
    sm_scale: float | None = None,
    return_lse: bool = False,
    *,
    attn_mask: Tensor | None = None,
    smooth_k: bool = True,
    smooth_v: bool = False,
    qk_quant_gran: str = "per_thread",
    pv_accum_dtype: str | None = None,
    enable_gqa: bool = True,
    **others: Any,
) -> Any:
    """Accuracy "standard". out, or with return_lse (out, lse [B, Hq, Lq] of the natural logarithm)."""
    words = {"causal": is_causal, "scale": sm_scale, "mask": attn_mask, "return_lse": return_lse}
    checks = (
        ("qk_quant_gran", qk_quant_gran, _GRANULARITY),
        ("pv_accum_dtype", pv_accum_dtype, (None, *_FP16, *_FP8)),
    )
    return dense(
        sageattn, "standard", (q, k, v), tensor_layout, words, others, places=(is_causal, sm_scale), checks=checks
    )


@requires_qkv
def sageattn_qk_int8_pv_fp16_triton(
    q: Tensor = None,
    k: Tensor = None,
    v: Tensor = None,
    tensor_layout: str = "HND",
    quantization_backend: str = "triton",
    is_causal: bool = False,
    attn_mask: Tensor | None = None,
    sm_scale: float | None = None,
    smooth_k: bool = True,
    return_lse: bool = False,
    **others: Any,
) -> Any:
    """Accuracy "high"."""
    words = {"causal": is_causal, "scale": sm_scale, "mask": attn_mask, "return_lse": return_lse}
    return dense(
        sageattn_qk_int8_pv_fp16_triton, "high", (q, k, v), tensor_layout, words, others,
        places=(quantization_backend, is_causal),
        checks=(("quantization_backend", quantization_backend, ("triton", "cuda")),),
    )  # fmt: skip


@requires_qkv
def sageattn_qk_int8_pv_fp16_cuda(
    q: Tensor = None,
    k: Tensor = None,
    v: Tensor = None,
    tensor_layout: str = "HND",
    is_causal: bool = False,
    qk_quant_gran: str = "per_thread",
    sm_scale: float | None = None,
    pv_accum_dtype: str = "fp32",
    smooth_k: bool = True,
    smooth_v: bool = False,
    return_lse: bool = False,
    *,
    attn_mask: Tensor | None = None,
    **others: Any,
) -> Any:
    """Accuracy "high"."""
    words = {"causal": is_causal, "scale": sm_scale, "mask": attn_mask, "return_lse": return_lse}
    return dense(
        sageattn_qk_int8_pv_fp16_cuda, "high", (q, k, v), tensor_layout, words, others,
        places=(is_causal, qk_quant_gran),
        checks=(("qk_quant_gran", qk_quant_gran, _GRANULARITY), ("pv_accum_dtype", pv_accum_dtype, _FP16)),
    )  # fmt: skip


@requires_qkv
def sageattn_qk_int8_pv_fp8_cuda(
    q: Tensor = None,
    k: Tensor = None,
    v: Tensor = None,
    tensor_layout: str = "HND",
    is_causal: bool = False,
    qk_quant_gran: str = "per_thread",
    sm_scale: float | None = None,
    pv_accum_dtype: str = "fp32+fp16",
    smooth_k: bool = True,
    smooth_v: bool = False,
    return_lse: bool = False,
    *,
    attn_mask: Tensor | None = None,
    **others: Any,
) -> Any:
    """Accuracy "standard"."""
    words = {"causal": is_causal, "scale": sm_scale, "mask": attn_mask, "return_lse": return_lse}
    return dense(
        sageattn_qk_int8_pv_fp8_cuda, "standard", (q, k, v), tensor_layout, words, others,
        places=(is_causal, qk_quant_gran),
        checks=(("qk_quant_gran", qk_quant_gran, _GRANULARITY), ("pv_accum_dtype", pv_accum_dtype, _FP8)),
    )  # fmt: skip


@requires_qkv
def sageattn_qk_int8_pv_fp8_cuda_sm90(
    q: Tensor = None,
    k: Tensor = None,
    v: Tensor = None,
    tensor_layout: str = "HND",
    is_causal: bool = False,
    qk_quant_gran: str = "per_thread",
    sm_scale: float | None = None,
    pv_accum_dtype: str = "fp32+fp32",
    smooth_k: bool = True,
    return_lse: bool = False,
    *,
    attn_mask: Tensor | None = None,
    **others: Any,
) -> Any:
    """Accuracy "standard"."""
    words = {"causal": is_causal, "scale": sm_scale, "mask": attn_mask, "return_lse": return_lse}
    return dense(
        sageattn_qk_int8_pv_fp8_cuda_sm90, "standard", (q, k, v), tensor_layout, words, others,
        places=(is_causal, qk_quant_gran),
        checks=(("qk_quant_gran", qk_quant_gran, _GRANULARITY), ("pv_accum_dtype", pv_accum_dtype, _FP8)),
    )  # fmt: skip


def sageattn_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    is_causal: bool = False,
    sm_scale: float | None = None,
    smooth_k: bool = True,
    *,
    tensor_layout: str = "NHD",
    return_lse: bool = False,
    **others: Any,
) -> Any:
    """Packed sequences, q [total, Hq, D], k and v [total, Hkv, D], or heads first ("HND"). Accuracy "standard"."""
    words = {"causal": is_causal, "scale": sm_scale, "return_lse": return_lse, "max_seqlen_q": max_seqlen_q}
    words |= {"cu_seqlens_q": cu_seqlens_q, "cu_seqlens_k": cu_seqlens_k, "max_seqlen_k": max_seqlen_k}
    return dense(sageattn_varlen, "standard", (q, k, v), tensor_layout, words, others)
