"""SpargeAttn's functions. They skip whole blocks of keys, and nothing else: clary computes the rest as it does without.

pvthreshd, which has upstream leave out products of weights that it expects to be small, and smooth_k choose nothing here;
output_dtype is ignored as upstream, whose result has q's dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._serve import serve
from . import blocks


def block_sparse_sage2_attn_cuda(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask_id: Tensor | None = None,
    dropout_p: float = 0.0,
    scale: float | None = None,
    smooth_k: bool = True,
    pvthreshd: Any = 50,
    attention_sink: bool = False,
    tensor_layout: str = "HND",
    output_dtype: torch.dtype = torch.float16,
    return_sparsity: bool = False,
    return_lse: bool = False,
) -> Any:
    """mask_id [B, Hq, ceil(Lq / 128), ceil(Lk / 64)], or of 64 x 128 blocks as on Hopper: nonzero = seen. None: all."""
    q, k, v = (_heads_first(x, tensor_layout) for x in (q, k, v))
    size, chosen = (blocks.BLOCK_Q, blocks.BLOCK_K), None
    if mask_id is None:
        chosen = q.new_ones(_grid(q, k, size), dtype=torch.bool)
    else:
        for size in ((128, 64), (64, 128)):
            if mask_id.dim() == 4 and mask_id.shape[2:] == _grid(q, k, size)[2:]:
                chosen = mask_id.bool().expand(_grid(q, k, size))
                break
    if chosen is None:
        want = " or ".join(str(list(_grid(q, k, s))) for s in ((128, 64), (64, 128)))
        raise ValueError(f"mask_id has shape {list(mask_id.shape)}. It must be {want}.")  # type: ignore[union-attr]
    if attention_sink:
        chosen = chosen.clone()
        chosen[..., 0] = True
    ends = dropout_p, False, scale, tensor_layout, return_sparsity, return_lse, "standard"
    return _run(q, k, v, chosen, size, *ends)


def _meansim(name: str, accuracy: str) -> Callable[..., Any]:
    def function(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        smooth_k: bool = True,
        simthreshd1: Any = 0.6,
        cdfthreshd: Any = 0.98,
        pvthreshd: Any = 50,
        attention_sink: bool = False,
        tensor_layout: str = "HND",
        output_dtype: torch.dtype = torch.float16,
        return_sparsity: bool = False,
        return_lse: bool = False,
    ) -> Any:
        """Skips the blocks beyond the cdfthreshd most of the expected weight."""
        choice = is_causal, simthreshd1, cdfthreshd, None, attention_sink
        ends = dropout_p, is_causal, scale, tensor_layout, return_sparsity, return_lse, accuracy
        return _predicted(name, (q, k, v), attn_mask, choice, ends)

    return _named(function, name)


def _meansim_topk(name: str, accuracy: str) -> Callable[..., Any]:
    def function(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        smooth_k: bool = True,
        simthreshd1: Any = -0.1,
        cdfthreshd: Any = None,
        topk: Any = 0.5,
        pvthreshd: Any = 50,
        attention_sink: bool = False,
        tensor_layout: str = "HND",
        output_dtype: torch.dtype = torch.float16,
        return_sparsity: bool = False,
        return_lse: bool = False,
    ) -> Any:
        """Skips the blocks beyond the share topk of greatest expected weight."""
        choice = is_causal, simthreshd1, cdfthreshd, topk, attention_sink
        ends = dropout_p, is_causal, scale, tensor_layout, return_sparsity, return_lse, accuracy
        return _predicted(name, (q, k, v), attn_mask, choice, ends)

    return _named(function, name)


def _named(function: Any, name: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    return function


def _predicted(name: str, qkv: tuple[Tensor, ...], mask: Any, choice: tuple[Any, ...], ends: tuple[Any, ...]) -> Any:
    if mask is not None:
        raise NotImplementedError(f"{name}: attn_mask is not served beside predicted blocks. Call sageattn with it.")
    if (choice[2] is None) == (choice[3] is None):
        raise ValueError(f"{name}: give one of cdfthreshd and topk.")
    q, k, v = (_heads_first(x, ends[3]) for x in qkv)
    size = blocks.BLOCK_Q, blocks.BLOCK_K
    return _run(q, k, v, blocks.predict(q, k, size, *choice), size, *ends)


spas_sage2_attn_meansim_cuda = _meansim("spas_sage2_attn_meansim_cuda", "standard")
spas_sage2_attn_meansim_topk_cuda = _meansim_topk("spas_sage2_attn_meansim_topk_cuda", "standard")
spas_sage_attn_meansim_cuda = _meansim("spas_sage_attn_meansim_cuda", "high")
spas_sage_attn_meansim_topk_cuda = _meansim_topk("spas_sage_attn_meansim_topk_cuda", "high")


def _run(
    q: Tensor, k: Tensor, v: Tensor, chosen: Tensor, size: tuple[int, int],
    dropout: float, causal: bool, scale: Any, layout: str, return_sparsity: bool, return_lse: bool, accuracy: str,
) -> Any:  # fmt: skip
    if dropout:
        raise NotImplementedError(f"dropout_p={dropout} is not served beside blocks. Leave it out.")

    def engine(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Any:
        return serve(q, k, v, accuracy, scale=scale, mask=mask, return_lse=True)

    out, lse = blocks.attend(engine, q, k, v, chosen, size, causal)
    out = out.transpose(1, 2).contiguous() if layout == "NHD" else out
    answer = [out, *([1 - chosen.float().mean().item()] if return_sparsity else []), *([lse] if return_lse else [])]
    return out if len(answer) == 1 else tuple(answer)


def _heads_first(x: Tensor, layout: str) -> Tensor:
    if layout not in ("HND", "NHD"):
        raise ValueError(f"tensor_layout is {layout!r}. Use 'HND' or 'NHD'.")
    return x.transpose(1, 2) if layout == "NHD" else x


def _grid(q: Tensor, k: Tensor, size: tuple[int, int]) -> tuple[int, ...]:
    return (*q.shape[:2], -(-q.shape[2] // size[0]), -(-k.shape[2] // size[1]))
