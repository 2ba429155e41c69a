"""SageAttention3's public function on clary: mask, scale, layout and grouped heads are honoured, inputs never written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._serve import dense, requires_qkv

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["sageattn3_blackwell"]


@requires_qkv
def sageattn3_blackwell(
    q: Tensor = None,
    k: Tensor = None,
    v: Tensor = None,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    per_block_mean: bool = True,
    *,
    sm_scale: float | None = None,
    tensor_layout: str = "HND",
    return_lse: bool = False,
    **others: Any,
) -> Any:
    """Accuracy "fast". With is_causal the last query sees the last key, as upstream.

    per_block_mean chooses how upstream smooths Q; clary's arithmetic has no such choice.
    """
    if isinstance(is_causal, float):
        raise TypeError('sageattn3_blackwell() was given dropout_p in torch\'s place. Use clary.enable("sdpa").')
    causal = "lower_right" if is_causal else False
    words = {"causal": causal, "scale": sm_scale, "mask": attn_mask, "return_lse": return_lse}
    return dense(sageattn3_blackwell, "fast", (q, k, v), tensor_layout, words, others)
