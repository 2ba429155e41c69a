"""torch's scaled_dot_product_attention on clary: what clary serves, and torch's own for all else.

The contract is torch's. A call that clary would refuse, or that torch would, is torch's; stats() tells why.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _call, _sdpa
from ._serve import serve, settings

_DTYPES = {torch.float16, torch.bfloat16, torch.float32}

replaced: Any = None  # what enable() found at torch.nn.functional


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
    return serve_sdpa((query, key, value), attn_mask, dropout_p, is_causal, scale, enable_gqa, "standard")


def serve_sdpa(
    qkv: tuple[Any, ...], mask: Any, dropout: Any, causal: Any, scale: Any, enable_gqa: bool, accuracy: str
) -> Any:
    q, k, v = qkv
    why = why_not(q, k, v, mask, dropout, causal, enable_gqa)
    if why is None:
        return serve(q, k, v, accuracy, causal=bool(causal), scale=scale, mask=mask)
    if not torch.compiler.is_compiling():
        _call.count("fallbacks", why)
    return _sdpa.torch_sdpa(q, k, v, mask, dropout, causal, scale=scale, enable_gqa=enable_gqa)


def why_not(q: Any, k: Any, v: Any, mask: Any, dropout: Any, causal: Any, enable_gqa: bool) -> str | None:
    """Why a call is torch's, or None."""
    if not (isinstance(q, Tensor) and isinstance(k, Tensor) and isinstance(v, Tensor)):
        return "sdpa: not tensors"
    if q.is_nested or k.is_nested or v.is_nested:
        return "sdpa: nested tensors"
    if dropout:
        return "sdpa: dropout"
    if causal and mask is not None:
        return "sdpa: causal and a mask"
    if not (q.dtype == k.dtype == v.dtype and q.dtype in _DTYPES) and not torch.is_autocast_enabled(q.device.type):
        return "sdpa: dtype"
    if not (q.is_cpu or q.is_cuda) or not q.device == k.device == v.device:
        return "sdpa: device"
    if q.dim() != 4 or k.dim() != 4 or v.dim() != 4 or k.shape[:3] != v.shape[:3] or q.shape[0] != k.shape[0]:
        return "sdpa: shape"
    if q.shape[1] != k.shape[1] and not (enable_gqa and k.shape[1] and q.shape[1] % k.shape[1] == 0):
        return "sdpa: heads"
    if mask is not None and (mask.dim() > 4 or mask.dtype not in _DTYPES | {torch.bool}):
        return "sdpa: mask"
    if settings.grad == "refuse" and torch.is_grad_enabled():
        if q.requires_grad or k.requires_grad or v.requires_grad or (mask is not None and mask.requires_grad):
            return "sdpa: requires grad"
    return None
