"""torch's scaled_dot_product_attention on clary: what clary serves, and torch's own for all else.

The contract is torch's. A call that clary would refuse, or that torch would, is torch's; so is one too small to gain by it.
stats() tells why.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._C._nn import scaled_dot_product_attention as torch_sdpa

from .. import _call, _torch
from ._serve import serve, settings

_DTYPES = {torch.float16, torch.bfloat16, torch.float32}
_F32 = torch.float32

# Where torch's f32 kernel on the CPU is as fast, in multiply-adds of q k^T, without a mask and with one: bench/dropin.py --all
# (docs/sdpa.md). Its 16-bit kernels are nowhere.
BREAK_EVEN, BREAK_EVEN_MASK = 100_000, 1_500_000

replaced: Any = None  # what enable() found at torch.nn.functional
_is_compiling, _is_grad_enabled = torch.compiler.is_compiling, torch.is_grad_enabled


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """torch.nn.functional.scaled_dot_product_attention, in accuracy "standard" unless enable() says another."""
    return serve_sdpa(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa, "standard")


def serve_sdpa(
    q: Any, k: Any, v: Any, mask: Any, dropout: Any, causal: Any, scale: Any, enable_gqa: bool, accuracy: str
) -> Any:
    why = why_not(q, k, v, mask, dropout, causal, enable_gqa)
    if why is None:
        if settings.grad == "refuse":  # clary.attention without its keywords
            words = "HND", bool(causal), scale, mask, *_NO_LENGTHS, settings.accuracy or accuracy, False, None
            return _torch.attention(q, k, v, *words)
        return serve(q, k, v, accuracy, causal=bool(causal), scale=scale, mask=mask)
    if not _is_compiling():
        _call._count("fallbacks", why)
    if scale is None and not enable_gqa:  # keywords cost a small call a tenth of its time
        return torch_sdpa(q, k, v, mask, dropout, causal)
    return torch_sdpa(q, k, v, mask, dropout, causal, scale=scale, enable_gqa=enable_gqa)


_NO_LENGTHS = (None,) * 6  # kv_lens to window


def why_not(q: Any, k: Any, v: Any, mask: Any, dropout: Any, causal: Any, enable_gqa: bool) -> str | None:
    """Why a call is torch's, or None. A microsecond or two; the commonest reason first."""
    if not (isinstance(q, Tensor) and isinstance(k, Tensor) and isinstance(v, Tensor)):
        return "sdpa: not tensors"
    if q.is_nested:
        return "sdpa: nested tensors"
    dtype, shape, of_k, of_v = q.dtype, q.shape, k.shape, v.shape
    if (
        len(shape) != 4
        or len(of_k) != 4
        or of_k[:3] != of_v[:3]
        or len(of_v) != 4
        or shape[0] != of_k[0]
        or shape[3] != of_k[3]
    ):
        return "sdpa: shape"
    if dtype is _F32 and not _is_compiling() and q.is_cpu:
        limit = BREAK_EVEN if mask is None else BREAK_EVEN_MASK
        if shape[0] * shape[1] * shape[2] * shape[3] * of_k[2] < limit:
            return "sdpa: below break-even"
    if dropout:
        return "sdpa: dropout"
    if causal and mask is not None:
        return "sdpa: causal and a mask"
    if not (dtype == k.dtype == v.dtype and dtype in _DTYPES) and not torch.is_autocast_enabled(q.device.type):
        return "sdpa: dtype"
    if not (q.is_cpu and k.is_cpu and v.is_cpu) and not (q.is_cuda and q.device == k.device == v.device):
        return "sdpa: device"
    if shape[1] != of_k[1] and not (enable_gqa and of_k[1] and shape[1] % of_k[1] == 0):
        return "sdpa: heads"
    if mask is not None and (mask.dim() > 4 or mask.dtype not in _DTYPES | {torch.bool}):
        return "sdpa: mask"
    if _is_grad_enabled() and settings.grad == "refuse":
        if q.requires_grad or k.requires_grad or v.requires_grad or (mask is not None and mask.requires_grad):
            return "sdpa: requires grad"
    return None


def install() -> None:
    global replaced
    replaced = torch.nn.functional.scaled_dot_product_attention
    torch.nn.functional.scaled_dot_product_attention = scaled_dot_product_attention


def uninstall() -> None:
    if torch.nn.functional.scaled_dot_product_attention is scaled_dot_product_attention:
        torch.nn.functional.scaled_dot_product_attention = replaced
