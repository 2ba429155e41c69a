"""grad="recompute": the forward pass is clary's, the backward pass that of torch's SDPA, run anew on the same inputs.

clary::attention has this formula whoever calls it; clary.attention refuses tensors that require grad unless asked.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _sdpa
from ._call import Arguments

_SCHEMA = (
    "attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, str layout, str causal, float? scale, Tensor? mask, "
    "Tensor? kv_lens, Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, SymInt? max_seqlen_q, SymInt? max_seqlen_k, "
    "SymInt[]? window, bool mask_grad) -> (Tensor dq, Tensor dk, Tensor dv, Tensor dmask)"
)


def _kernel(grad: Tensor, *args: Any) -> tuple[Tensor, ...]:
    *args, mask_grad = args  # type: ignore[assignment]
    a = Arguments(*args)
    wanted = [a.q, a.k, a.v, *([a.mask] if mask_grad else [])]
    with torch.enable_grad():
        wanted = [x.detach().requires_grad_() for x in wanted]
        again = a._replace(q=wanted[0], k=wanted[1], v=wanted[2], mask=wanted[3] if mask_grad else a.mask)
        grads = torch.autograd.grad(_sdpa.attention(again), wanted, grad)
    return tuple(x.contiguous() for x in grads) + (() if mask_grad else (a.q.new_empty(0),))


def _fake(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *args: Any) -> tuple[Tensor, ...]:
    mask = args[3] if args[-1] else None
    return *(x.new_empty(x.shape) for x in (q, k, v)), q.new_empty(0) if mask is None else mask.new_empty(mask.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *args, ctx.return_lse = inputs
    *args, _ = args  # accuracy
    ctx.words = [None if isinstance(x, Tensor) else x for x in args]
    ctx.at = [i for i, x in enumerate(args) if isinstance(x, Tensor)]
    ctx.save_for_backward(*(args[i] for i in ctx.at))
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Any, ...]:
    args = list(ctx.words)
    for i, x in zip(ctx.at, ctx.saved_tensors):
        args[i] = x
    mask_grad = ctx.needs_input_grad[6]
    dq, dk, dv, dmask = torch.ops.clary.attention_backward(grad, *args, mask_grad)
    return dq, dk, dv, None, None, None, dmask if mask_grad else None, *[None] * 8


def register(operators: Any) -> None:
    operators.define(_SCHEMA, tags=(torch.Tag.pt2_compliant_tag,))
    operators.impl("attention_backward", _kernel, "CompositeExplicitAutograd")
    torch.library.register_fake("clary::attention_backward", _fake, lib=operators)
    torch.library.register_autograd("clary::attention", _backward, setup_context=_save, lib=operators)
