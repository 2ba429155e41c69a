"""transformers: attn_implementation="clary", through its attention interface.

A mask that says no more than "causal" is not made: clary aligns causality with the last key, so no mask means the same
with and without a KV cache. Every other mask is transformers' own for SDPA, boolean and complete.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import attention
from ..compat._serve import settings
from . import NAMES

# What models hand to their attention and clary does not compute, at values that ask for it.
_REFUSED = {
    "block_indices": "sparse attention by blocks",
    "cache": "a paged KV cache (continuous batching)",
    "head_mask": "a mask of whole heads",
    "indices": "sparse attention by key",
    "output_attentions": "the attention weights as an output",
    "sinks": "a sink of every row",
    "softcap": "capped scores",
}


def forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    position_bias: Tensor | None = None,
    s_aux: Tensor | None = None,
    cu_seq_lens_q: Tensor | None = None,
    cu_seq_lens_k: Tensor | None = None,
    max_length_q: int | None = None,
    max_length_k: int | None = None,
    *,
    accuracy: str | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """query [B, Hq, Lq, D], key [B, Hkv, Lk, D], value [B, Hkv, Lk, Dv] -> out [B, Lq, Hq, Dv], contiguous.

    attention_mask  [B or 1, H or 1, Lq, Lk], bool or additive. It is complete: causality and windows are in it.
    s_aux           [Hq]: a score of a key without value, in every row's sum ("attention sink").
    cu_seq_lens_*   without a mask and with B = 1: packed sequences.
    Raises NotImplementedError for what clary does not compute; the model runs it with another attn_implementation.
    """
    for name, what in _REFUSED.items():
        asked = others.get(name)
        if asked is not None and asked is not False:
            raise _refusal(module, f"{what} ({name})")
    if dropout:
        raise _refusal(module, f"dropout ({dropout}); model.eval() switches it off")
    causal = attention_mask is None and (getattr(module, "is_causal", True) if is_causal is None else is_causal)
    words: dict[str, Any] = {"causal": "lower_right" if causal else False, "scale": scaling}
    if position_bias is not None:
        attention_mask = _added(position_bias, attention_mask)
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    packed = attention_mask is None and cu_seq_lens_q is not None and query.shape[0] == 1
    if packed:
        q, k, v = q[0], k[0], v[0]
        words |= {"cu_seqlens_q": cu_seq_lens_q, "cu_seqlens_k": cu_seq_lens_k}
        words |= {"max_seqlen_q": max_length_q, "max_seqlen_k": max_length_k}
    out = attention(
        q, k, v, layout="NHD", mask=attention_mask, return_lse=s_aux is not None,
        accuracy=accuracy or settings.accuracy or "standard", grad=settings.grad, **words,
    )  # fmt: skip
    if s_aux is not None:
        # exp(sink) joins the row's sum: sum / (sum + exp(sink)) = sigmoid(lse - sink).
        out, lse = out
        share = torch.sigmoid(lse - s_aux.float()[:, None]).transpose(-1, -2)
        out = (out * share[..., None]).to(query.dtype)
    return (out[None] if packed else out), None


def _refusal(module: torch.nn.Module, what: str) -> NotImplementedError:
    text = f'{type(module).__name__} asks for {what}, which clary does not compute. Use attn_implementation="eager".'
    return NotImplementedError(text)


def _added(bias: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return bias
    return torch.where(mask, bias, float("-inf")) if mask.dtype == torch.bool else bias + mask


def make_mask(*, allow_is_causal_skip: bool = True, **call: Any) -> Tensor | None:
    """The mask of one kind of layer, [B, 1, Lq, Lk], True = attend; None where forward() needs none."""
    from transformers import masking_utils

    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()  # the answer depends on values
    if allow_is_causal_skip and not traced and _only_causal(**call):
        return None
    mask: Tensor | None = masking_utils.sdpa_mask(allow_is_causal_skip=False, **call)
    return mask


def _only_causal(
    kv_length: int,
    kv_offset: int = 0,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    q_length: int = 0,
    q_offset: int | Tensor = 0,
    cache_position: Tensor | None = None,
    **others: Any,
) -> bool:
    """Whether causality towards the last key is all there is: no padding, no window that ends before the first key.

    REQUIRES: a mask function that is causal, perhaps within a window or chunk of local_size.
    """
    if cache_position is not None:  # transformers 4
        q_length, q_offset = cache_position.shape[0], cache_position[0]
    if local_size is not None and kv_length >= local_size:
        return False
    if int(q_offset) + q_length != kv_offset + kv_length:
        return False
    if attention_mask is None:
        return True
    seen = attention_mask[:, kv_offset : kv_offset + kv_length]
    return seen.shape[1] == kv_length and bool(seen.all())


def install() -> None:
    """Puts the names of NAMES on transformers' lists of attentions and masks."""
    from transformers.masking_utils import AttentionMaskInterface
    from transformers.modeling_utils import AttentionInterface

    for name, accuracy in NAMES.items():
        AttentionInterface.register(name, partial(forward, accuracy=accuracy))
        AttentionMaskInterface.register(name, make_mask)


def uninstall() -> None:
    from transformers.masking_utils import AttentionMaskInterface
    from transformers.modeling_utils import AttentionInterface

    for name in NAMES:
        AttentionInterface._global_mapping.pop(name, None)
        AttentionMaskInterface._global_mapping.pop(name, None)
