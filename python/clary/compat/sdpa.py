"""torch's scaled_dot_product_attention on clary: what clary serves, and torch's own for all else.

The contract is torch's. A call that clary would refuse, or that torch would, is torch's; so is one too small to gain by it.
stats() tells why.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch._C._nn import scaled_dot_product_attention as torch_sdpa
from torch.overrides import handle_torch_function

from .. import _call, _torch
from ._serve import serve, settings

_DTYPES = {torch.float16, torch.bfloat16, torch.float32}
_F32 = torch.float32

# Where torch's f32 kernel on the CPU is as fast, in multiply-adds of q k^T, without a mask and with one: bench/dropin.py --all
# (docs/sdpa.md). Its 16-bit kernels are nowhere.
BREAK_EVEN, BREAK_EVEN_MASK = 200_000, 1_500_000

replaced: Any = None  # what enable() found at torch.nn.functional
_is_compiling, _is_grad_enabled = torch.compiler.is_compiling, torch.is_grad_enabled
_has_torch_function = torch.overrides.has_torch_function_variadic


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
    # A TorchFunctionMode, or a tensor class with a __torch_function__, is shown the function that stands at torch's name:
    # it may look for just that, as torch.nn.attention.bias does.
    if _has_torch_function(query, key, value, attn_mask) and not _is_compiling() and isinstance(query, Tensor):
        words: dict[str, Any] = {"scale": scale, "enable_gqa": enable_gqa}
        args = query, key, value, attn_mask, dropout_p, is_causal
        return handle_torch_function(scaled_dot_product_attention, args[:4], *args, **words)
    return serve_sdpa(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa, "standard")


def serve_sdpa(
    q: Any, k: Any, v: Any, mask: Any, dropout: Any, causal: Any, scale: Any, enable_gqa: bool, accuracy: str
) -> Any:
    compiling = _is_compiling()
    if compiling:
        why, signature = _why_not(q, k, v, mask, dropout, causal, enable_gqa), None
    elif _is_small(q, k, mask):
        why = "sdpa: below break-even"
    elif _torch.watched():
        why = "sdpa: traced or transformed"
    else:
        why, signature = _eagerly(q, k, v, mask, dropout, causal, scale, enable_gqa)
        if why is None and settings.grad == "refuse":  # clary.attention without its keywords
            words = settings.accuracy or accuracy, False, None
            return _torch.eager(signature, q, k, v, "HND", causal, scale, mask, *_NO_LENGTHS, *words)
    if why is None:
        return serve(q, k, v, accuracy, causal=causal, scale=scale, mask=mask)
    if not compiling:
        _call.count("fallbacks", why)
    if scale is None and not enable_gqa:  # keywords cost a small call a tenth of its time
        return torch_sdpa(q, k, v, mask, dropout, causal)
    return torch_sdpa(q, k, v, mask, dropout, causal, scale=scale, enable_gqa=enable_gqa)


_NO_LENGTHS = (None,) * 6  # kv_lens to window


def _is_small(q: Any, k: Any, mask: Any) -> bool:
    if type(q) is Tensor and type(k) is Tensor and q.dtype is _F32 and q.is_cpu and not k.is_nested and k.dim() == 4:
        return bool(q.numel() * k.shape[2] < (BREAK_EVEN if mask is None else BREAK_EVEN_MASK))
    return False


# (signature, enable_gqa) of calls without a mask -> _why_not, where autocast has no say in it.
_verdicts: dict[Any, str | None] = {}
_MAX_VERDICTS, _UNKNOWN = 1024, ""


def _eagerly(
    q: Any, k: Any, v: Any, mask: Any, dropout: Any, causal: Any, scale: Any, enable_gqa: Any
) -> tuple[str | None, Any]:
    """Why an eager call is torch's, or None; and its signature, where it has one."""
    plain = _torch.PLAIN
    if type(q) not in plain or type(k) not in plain or type(v) not in plain:
        return "sdpa: not plain tensors", None
    if mask is not None and type(mask) not in plain:
        return "sdpa: not plain tensors", None
    if type(causal) is not bool or type(enable_gqa) is not bool:
        return "sdpa: words", None
    if scale is not None and not (isinstance(scale, (float, int)) and math.isfinite(scale)):
        return "sdpa: words", None
    if q.is_nested or k.is_nested or v.is_nested:
        return "sdpa: nested tensors", None
    signature = None
    if mask is None and dropout == 0.0:
        signature = _torch.signature(q, k, v)
        if signature is not None:
            key = signature, enable_gqa
            why = _verdicts.get(key, _UNKNOWN)
            if why is not _UNKNOWN:
                return why, signature
    why = _why_not(q, k, v, mask, dropout, causal, enable_gqa)
    if signature is not None and why != "sdpa: dtype" and not torch.is_autocast_enabled(q.device.type):
        if len(_verdicts) >= _MAX_VERDICTS:
            _verdicts.clear()
        _verdicts[key] = why
    return why, signature


def _why_not(q: Any, k: Any, v: Any, mask: Any, dropout: Any, causal: Any, enable_gqa: bool) -> str | None:
    """Why a call is torch's, eager or compiled, or None."""
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
    if dropout != 0.0:
        return "sdpa: dropout"
    if not (dtype == k.dtype == v.dtype and dtype in _DTYPES) and not torch.is_autocast_enabled(q.device.type):
        return "sdpa: dtype"
    if not (q.is_cpu and k.is_cpu and v.is_cpu) and not (q.is_cuda and q.device == k.device == v.device):
        return "sdpa: device"
    if shape[1] != of_k[1] and not (enable_gqa and of_k[1] and shape[1] % of_k[1] == 0):
        return "sdpa: heads"
    if mask is not None:
        if causal:
            return "sdpa: causal and a mask"
        if not _is_mask(mask, (*shape[:3], of_k[2]), dtype):
            return "sdpa: mask"
    if _is_grad_enabled() and settings.grad == "refuse":
        if q.requires_grad or k.requires_grad or v.requires_grad or (mask is not None and mask.requires_grad):
            return "sdpa: requires grad"
    return None


def _is_mask(mask: Tensor, scores: tuple[int, ...], dtype: torch.dtype) -> bool:
    """Whether torch takes it for scores of that shape [B, Hq, Lq, Lk] in that dtype, and clary too."""
    shape = mask.shape
    if len(shape) > 4 or any(n != 1 and n != want for n, want in zip(shape, scores[4 - len(shape) :])):
        return False
    if mask.dtype in (torch.bool, _F32, dtype):
        return True
    return mask.dtype in _DTYPES and torch.is_autocast_enabled(mask.device.type)


def install() -> None:
    global replaced
    replaced = torch.nn.functional.scaled_dot_product_attention
    torch.nn.functional.scaled_dot_product_attention = scaled_dot_product_attention


def uninstall() -> None:
    if torch.nn.functional.scaled_dot_product_attention is scaled_dot_product_attention:
        torch.nn.functional.scaled_dot_product_attention = replaced
