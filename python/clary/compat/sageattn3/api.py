"""sageattn3.api: its public function. The FP4 tensors that its helpers pass on have no counterpart here."""

from __future__ import annotations

from .._private import refused
from . import sageattn3_blackwell

__all__ = ["sageattn3_blackwell"]

_WHY = "clary packs no FP4 tensors in Python. Call sageattn3_blackwell(q, k, v)."
preprocess_qkv = refused("preprocess_qkv", _WHY)
scale_and_quant_fp4 = refused("scale_and_quant_fp4", _WHY)
scale_and_quant_fp4_permute = refused("scale_and_quant_fp4_permute", _WHY)
scale_and_quant_fp4_transpose = refused("scale_and_quant_fp4_transpose", _WHY)
blockscaled_fp4_attn = refused("blockscaled_fp4_attn", _WHY)
triton_group_mean = refused("triton_group_mean", _WHY)
