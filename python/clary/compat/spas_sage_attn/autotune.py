"""SpargeAttn's search for thresholds: refused. The module is there because programs import it to see whether it is."""

from __future__ import annotations

from .._private import refused

__all__ = ["SparseAttentionMeansim", "extract_sparse_attention_state_dict", "load_sparse_attention_state_dict"]

_WHY = (
    "clary searches no thresholds. Call spas_sage2_attn_meansim_topk_cuda, or block_sparse_sage2_attn_cuda with blocks."
)
SparseAttentionMeansim = refused("SparseAttentionMeansim", _WHY)
extract_sparse_attention_state_dict = refused("extract_sparse_attention_state_dict", _WHY)
load_sparse_attention_state_dict = refused("load_sparse_attention_state_dict", _WHY)
