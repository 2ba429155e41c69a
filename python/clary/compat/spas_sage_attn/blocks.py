"""Which blocks of keys a block of queries sees: predicted from block means, and applied exactly."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK_Q, BLOCK_K = 128, 64
_MASK_BYTES = 256 << 20  # of the element mask that one call of the engine gets


def attend(
    serve: Any, q: Tensor, k: Tensor, v: Tensor, blocks: Tensor, size: tuple[int, int], causal: bool
) -> tuple[Tensor, Tensor]:
    """q [B, Hq, Lq, D], k and v [B, Hkv, Lk, D], blocks bool [B, Hq, Lq / size[0], Lk / size[1]], both rounded up.

    The element mask is made for as many heads, then query blocks, at a time as fit in a fixed memory. A row's result does
    not depend on which rows are computed with it.
    """
    (batch, heads, queries, _), (_, kv_heads, keys, _) = q.shape, k.shape
    group, (rows, columns) = heads // kv_heads, size
    heads_at_once = max(1, _MASK_BYTES // max(1, group * queries * keys))
    rows_at_once = max(rows, _MASK_BYTES // max(1, group * keys) // rows * rows)
    out = q.new_empty(*q.shape[:3], v.shape[3])
    lse = q.new_empty(q.shape[:3], dtype=torch.float32)
    at = torch.arange(keys, device=q.device)
    for b in range(batch):
        for h in range(0, kv_heads, heads_at_once):
            seen = slice(b, b + 1), slice(h, h + heads_at_once)
            asking = slice(h * group, (h + heads_at_once) * group)
            for i in range(0, queries, rows_at_once):
                part = slice(b, b + 1), asking, slice(i, min(i + rows_at_once, queries))
                mask = blocks[b : b + 1, asking, i // rows : -(-part[2].stop // rows)]
                mask = mask.repeat_interleave(rows, 2)[:, :, : part[2].stop - i]
                mask = mask.repeat_interleave(columns, 3)[..., :keys]
                if causal:
                    mask = mask & (at <= torch.arange(i, part[2].stop, device=q.device)[:, None])
                out[part], lse[part] = serve(q[part], k[seen], v[seen], mask)
    return out, lse


def predict(
    q: Tensor, k: Tensor, size: tuple[int, int], causal: bool, similar: Any, cdf: Any, topk: Any, sink: bool
) -> Tensor:
    """bool [B, Hq, nq, nk] of SpargeAttn (arXiv 2502.18137): blocks whose pooled scores matter.

    similar, cdf and topk are numbers or tensors [H]. A block of too little self-similarity, and one at the end that is
    not whole, is neither skipped nor a reason to skip.
    """
    k = k - k.mean(2, keepdim=True)
    (pool_q, like_q), (pool_k, like_k) = _pool(q, size[0], similar), _pool(k, size[1], similar)
    group = q.shape[1] // k.shape[1]
    pool_k, like_k = pool_k.repeat_interleave(group, 1), like_k.repeat_interleave(group, 1)
    score = pool_q @ pool_k.transpose(2, 3) * q.shape[3] ** -0.5
    nq, nk = score.shape[2:]
    end = -(
        -torch.arange(1, nq + 1, device=q.device) * size[0] // size[1]
    )  # of what causal lets a block of queries see
    visible = torch.arange(nk, device=q.device) < end[:, None] if causal else score.new_ones(nq, nk, dtype=torch.bool)
    score = score.masked_fill(~like_k[:, :, None] | ~visible, float("-inf")).softmax(-1).nan_to_num(0.0)
    share, order = score.sort(-1, descending=True)
    if topk is not None:
        count = (_per_head(topk, q) * nk).long().clamp(min=1)
        kept = torch.arange(nk, device=q.device) < count
    else:
        limit = _per_head(cdf, q)
        kept = (share.cumsum(-1) <= limit) | (limit >= 1)  # 1 is all, also where the sum rounds to more
        kept[..., 0] = True
    blocks = torch.zeros_like(kept).expand(score.shape).scatter(-1, order, kept.expand(score.shape))
    blocks = (blocks | ~like_k[:, :, None] | ~like_q[..., None]) & visible
    if sink:
        blocks[..., 0] = True
    return blocks


def _pool(x: Tensor, size: int, similar: Any) -> tuple[Tensor, Tensor]:
    """Block means [B, H, n, D], and which blocks are whole and similar to themselves [B, H, n]."""
    x = x.float()
    whole, n = x.shape[2] // size, -(-x.shape[2] // size)
    padded = torch.nn.functional.pad(x, (0, 0, 0, n * size - x.shape[2])).unflatten(2, (n, size))
    lengths = torch.full((n, 1), size, device=x.device)
    lengths[whole:] = x.shape[2] - whole * size
    # The mean of all cosines of pairs is the squared length of the mean direction.
    cosine = torch.nn.functional.normalize(padded, dim=-1).mean(3).square().sum(-1)
    like = (cosine > _per_head(similar, x)[..., 0]) & (torch.arange(n, device=x.device) < whole)
    return padded.sum(3) / lengths, like


def _per_head(value: Any, x: Tensor) -> Tensor:
    """[1, H or 1, 1, 1]"""
    return torch.as_tensor(value, device=x.device, dtype=torch.float32).reshape(1, -1, 1, 1)
