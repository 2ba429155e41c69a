"""The contract of clary.attention from torch's scaled_dot_product_attention, for what the library does not serve.

Lengths become slices, lower_right and windows a mask, and rows that see nothing zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._C._nn import scaled_dot_product_attention  # torch's own, whatever a program puts at its public name

from ._call import Arguments, causal_word, window_pair

_HAS_GQA = "enable_gqa" in (scaled_dot_product_attention.__doc__ or "")


def serving(a: Arguments) -> Callable[[Tensor, Tensor, Tensor], Any]:
    """What serves calls like this one, of their q, k and v: torch's function with its words bound, where that is all."""
    grouped = a.q.shape[1:2] != a.k.shape[1:2]
    if a.layout == "HND" and a.q.dim() == 4 and _is_plain(a) and (_HAS_GQA or not grouped):
        words: dict[str, Any] = {"enable_gqa": True} if grouped else {}
        words |= {"is_causal": True} if causal_word(a.causal) != "none" else {}
        words |= {} if a.scale is None else {"scale": a.scale}
        bound: Any = partial(scaled_dot_product_attention, **words)
        return lambda q, k, v: bound(q, k, v).contiguous()
    others = a[3:]  # a plan keeps no q, k and v alive
    return lambda q, k, v: attention(Arguments(q, k, v, *others))


def attention(a: Arguments) -> Any:
    """What clary.attention returns."""
    if _is_plain(a):
        q, k, v = (_heads_first(x, a.layout) for x in (a.q, a.k, a.v))
        out = _sdpa(q, k, v, None, a.causal not in (False, "none"), a.scale)
        out = out.transpose(1, 2) if a.layout == "NHD" else out
        return (out if a.q.dim() == 4 else out[0]).contiguous()
    out = a.q.new_empty((*a.q.shape[:-1], a.v.shape[-1])) if a.out is None else a.out
    q, k, v, out4 = (_heads_first(x, a.layout) for x in (a.q, a.k, a.v, out))
    if not _fit(q, k, v):
        raise ValueError(f"shapes {a.q.shape}, {a.k.shape}, {a.v.shape} do not fit. k and v differ in Dv alone.")
    lse = q.new_empty(q.shape[:3], dtype=torch.float32) if a.return_lse else None
    mask = None if a.mask is None else a.mask.expand(*q.shape[:3], k.shape[2])
    for entry, rows, keys in _sequences(a, q.shape[2], k.shape[2]):
        at, seen = (entry, slice(None), rows), (entry, slice(None), keys)
        bias = None if mask is None else mask[entry, :, rows, keys]
        out4[at], log_sum = _one(q[at], k[seen], v[seen], bias, a)
        if lse is not None:
            lse[at] = log_sum
    return out if lse is None else (out, lse if a.q.dim() == 4 else lse[0])


def _is_plain(a: Arguments) -> bool:
    """Whether SDPA means the same by these words: nothing to slice, mask or write elsewhere."""
    words = a.mask, a.kv_lens, a.cu_seqlens_q, a.cu_seqlens_k, a.window, a.out
    return (
        all(x is None for x in words)
        and not a.return_lse
        and a.causal in (False, True, "none", "upper_left")
        and a.layout in ("HND", "NHD")
        and a.q.dim() == a.k.dim() == a.v.dim() in (3, 4)
        and 0 not in (*a.q.shape, *a.k.shape)
        and _fit(*(_heads_first(x, a.layout) for x in (a.q, a.k, a.v)))
    )


def _fit(q: Tensor, k: Tensor, v: Tensor) -> bool:
    same = q.shape[0] == k.shape[0] and k.shape[:3] == v.shape[:3] and q.shape[3] == k.shape[3]
    return same and q.shape[1] % k.shape[1] == 0


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
    gqa = q.shape[1] != k.shape[1]
    if gqa and not _HAS_GQA:
        k, v, gqa = *(x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v)), False
    words = {"enable_gqa": True} if gqa else {}
    return scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale, **words)


def _heads_first(x: Tensor, layout: str) -> Tensor:
    x = x.unsqueeze(0) if x.dim() == 3 else x
    return x.transpose(1, 2) if layout == "NHD" else x


def _sequences(a: Arguments, queries: int, keys: int) -> Iterator[tuple[slice, slice, slice]]:
    """Batch entries, queries and keys of each independent problem."""
    every = slice(None)
    if a.cu_seqlens_q is not None or a.cu_seqlens_k is not None:
        q, k = (_numbers(x) for x in (a.cu_seqlens_q, a.cu_seqlens_k))
        if a.mask is not None or a.kv_lens is not None or not (_spans(q, queries) and _spans(k, keys)):
            raise ValueError(
                "cu_seqlens_q and _k go together, from 0 to the number of tokens, without mask or kv_lens."
            )
        for q0, q1, k0, k1 in zip(q, q[1:], k, k[1:]):
            yield every, slice(q0, q1), slice(k0, k1)
    elif a.kv_lens is not None:
        for b, n in enumerate(_numbers(a.kv_lens)):
            if not 0 <= n <= keys:
                raise ValueError(f"kv_lens[{b}] is {n}. Lengths are 0 to Lk = {keys}.")
            yield slice(b, b + 1), every, slice(0, n)
    else:
        yield every, every, every


def _numbers(x: Any) -> list[int]:
    return [] if x is None else torch.as_tensor(x).tolist()


def _spans(cu: list[int], total: int) -> bool:
    return cu[:1] == [0] and cu[-1] == total and cu == sorted(cu)


def _one(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, a: Arguments) -> tuple[Tensor, Any]:
    """out and lse of q [B, Hq, Lq, D], k and v [B, Hkv, Lk, D], mask [B, Hq, Lq, Lk]."""
    queries, keys = q.shape[2], k.shape[2]
    if keys == 0:
        return q.new_zeros((*q.shape[:3], v.shape[3])), float("-inf")
    causal = causal_word(a.causal)
    left, right = window_pair(a.window) or (-1, -1)
    if causal == "upper_left" and mask is None and left < 0 and right < 0 and not a.return_lse:
        return _sdpa(q, k, v, None, True, a.scale), None
    visible = None
    if causal != "none" or left >= 0 or right >= 0:
        i = torch.arange(queries, device=q.device)[:, None] + (keys - queries if causal == "lower_right" else 0)
        j = torch.arange(keys, device=q.device)
        visible = (j <= i) if causal != "none" else torch.ones_like(j <= i)
        visible = visible & (j >= i - left) if left >= 0 else visible
        visible = visible & (j <= i + right) if right >= 0 else visible
    if mask is not None and mask.dtype == torch.bool:
        visible, mask = mask if visible is None else visible & mask, None
    if mask is not None:
        mask = mask.float() if visible is None else mask.float().masked_fill(~visible, float("-inf"))
        visible = mask > float("-inf")
    bias = visible if mask is None else mask.to(q.dtype)
    out = _sdpa(q, k, v, bias, False, a.scale)
    if visible is not None:
        out = out.masked_fill(~visible.any(-1, keepdim=True), 0)
    if not a.return_lse:
        return out, None
    k = k if k.shape[1] == q.shape[1] else k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    scores = (q.float() @ k.float().transpose(2, 3)) * (q.shape[3] ** -0.5 if a.scale is None else a.scale)
    scores = scores if mask is None else scores + mask
    return out, (scores if visible is None else scores.masked_fill(~visible, float("-inf"))).logsumexp(-1)
