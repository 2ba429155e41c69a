"""torch tensors: straight to the library when eager, one opaque operator, clary::attention, when traced.

The operator's fake kernel promises what the eager path gives: a contiguous output in the layout of q.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from . import _call, _grad, _lib, _sdpa
from ._call import Arguments

_TYPES = {torch.float16: _lib.F16, torch.bfloat16: _lib.BF16, torch.float32: _lib.F32, torch.bool: _lib.BOOL}
PLAIN = (Tensor, torch.nn.Parameter)  # other subclasses may have no memory of their own: they take the operator
_GRAD = '{} requires grad. Use torch.no_grad(), or grad="recompute" for a backward pass by torch.'
_self = sys.modules[__name__]
_is_autocast_enabled = torch.is_autocast_enabled
_is_compiling, _is_grad_enabled = torch.compiler.is_compiling, torch.is_grad_enabled
_attend = _call.attend
_any_autocast = torch._C._is_any_autocast_enabled
_modes, _tracing = torch._C._len_torch_dispatch_stack, torch._C._get_tracing_state
_transforms = torch._C._functorch.peek_interpreter_stack


def attention(q: Tensor, k: Any, v: Any, *args: Any) -> Any:
    if (
        _is_compiling()
        or type(q) not in PLAIN
        or (_modes() or _tracing() or _transforms() or forward_ad._current_level >= 0)  # watched()
    ):
        return _traced(_as_autocast(q, k, v, *args))
    signed = signature(q, k, v)
    if signed is None and not (q.is_cuda or q.is_cpu):
        return _traced(_as_autocast(q, k, v, *args))
    if _any_autocast():
        return eager(signed, q, k, v, *args)
    return _attend(_self, signed, q, k, v, *args)


def eager(signed: Any, q: Tensor, k: Any, v: Any, *args: Any) -> Any:
    """attention() of tensors of that signature with memory of their own, where nothing has to see an operator."""
    if _any_autocast() and _is_autocast_enabled("cpu" if q.is_cpu else "cuda"):
        q, k, v, *args = _as_autocast(q, k, v, *args)  # type: ignore[assignment]
        signed = signature(q, k, v)
    return _attend(_self, signed, q, k, v, *args)


def watched() -> bool:
    """Whether a dispatch mode, torch.jit.trace, torch.func or forward-mode differentiation has to see operators."""
    return bool(_modes() or _tracing() or _transforms() or forward_ad._current_level >= 0)


explain = partial(_call.explain, _self, "torch:scaled_dot_product_attention")


def differentiable(grad: str) -> Any:
    """This module, or what has a backward pass too."""
    return _Differentiable if _call._word("grad", grad, _call._GRAD) else _self


class _Differentiable:
    @staticmethod
    def attention(q: Tensor, k: Tensor, v: Tensor, layout: Any, causal: Any, scale: Any, mask: Any, *args: Any) -> Any:
        wanted = any(x is not None and x.requires_grad for x in (q, k, v, mask)) and _is_grad_enabled()
        if wanted and args[-1] is not None:
            raise ValueError("out cannot be given where a backward pass is wanted. Use the result.")
        a = q, k, v, layout, causal, scale, mask, *args
        return _operator(_as_autocast(*a)) if wanted else attention(*a)


def _as_autocast(*args: Any) -> Arguments:
    """With q, k, v and mask as torch's SDPA would have them: cast under autocast."""
    a = Arguments(*args)
    device = "cpu" if a.q.is_cpu else "cuda"
    if not _is_autocast_enabled(device):
        return a
    dtype = torch.get_autocast_dtype(device)

    def cast(x: Any) -> Any:
        return x.to(dtype) if isinstance(x, Tensor) and x.dtype in _TYPES and x.dtype != torch.bool else x

    return a._replace(q=cast(a.q), k=cast(a.k), v=cast(a.v), mask=cast(a.mask))


# ---- the backend ----------------------------------------------------------------------------------------------------


def view(x: Tensor, name: str, broadcast: bool = False) -> _call.View:
    try:
        shape, stride, code, device = x.shape, x.stride(), _TYPES[x.dtype], x.get_device()
    except (AttributeError, KeyError, TypeError):
        raise _type_error(x, name) from None
    if x.requires_grad and _is_grad_enabled():
        raise RuntimeError(_GRAD.format(name))
    if not (x.is_cpu or x.is_cuda):
        raise _lib.NotSupported(f"no backend for tensors on {x.device.type}.")
    if x.is_neg():
        x = x.resolve_neg()
        stride = x.stride()
    if stride and stride[-1] != 1 and shape[-1] > 1 and not (broadcast and stride[-1] == 0):
        x = x.contiguous()
        stride = x.stride()
    return _call.View(x.data_ptr(), shape, stride, code, device, x)


def _type_error(x: Any, name: str) -> TypeError:
    if not isinstance(x, Tensor):
        return TypeError(f"{name} is a {type(x).__name__} beside a torch q. Pass a torch.Tensor.")
    also = "bool, " if name == "mask" else ""
    return TypeError(
        f"{name} is {x.dtype}. Convert it to {also}float32, float16 or bfloat16: {name}.to(torch.float32)."
    )


def signature(q: Any, k: Any, v: Any) -> Any:
    if not type(q) is type(k) is type(v) is Tensor or not (q.is_cuda or q.is_cpu):
        return None
    if _is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
        return None
    if q.is_neg() or k.is_neg() or v.is_neg():
        return None
    return (
        q.shape, q.stride(), q.dtype, q.device, k.shape, k.stride(), k.dtype, k.device,
        v.shape, v.stride(), v.dtype, v.device,
    )  # fmt: skip


data = Tensor.data_ptr


empty_like = torch.empty_like  # half the time of new_empty


def empty(q: Tensor, shape: Sequence[int], f32: bool = False) -> Tensor:
    return q.new_empty(shape, dtype=torch.float32 if f32 else q.dtype)


def int32(x: Any, q: Tensor, name: str) -> tuple[int, int, Tensor]:
    x = x if isinstance(x, Tensor) else torch.tensor(x, device=q.device)
    if x.dim() != 1 or x.is_floating_point() or x.dtype == torch.bool:
        raise TypeError(f"{name} is {x.dtype} with {x.dim()} dimensions. Pass a 1-d tensor of integers.")
    if x.device != q.device:
        raise ValueError(f"{name} is on {x.device} and q on {q.device}. Move it there.")
    x = (x if x.dtype == torch.int32 else x.clamp(-1, 2**31 - 1).to(torch.int32)).contiguous()
    return x.data_ptr(), x.numel(), x


def _documented_stream(device: int) -> int:
    return int(torch.cuda.current_stream(device).cuda_stream)


def _internal(name: str) -> Any:
    return getattr(torch._C, name, None)


# A fraction of the time of what is documented, where this torch has them. _raw_alloc allocates on the current device.
_stream = _internal("_cuda_getCurrentRawStream") or _documented_stream
_current_device = _internal("_cuda_getDevice") or (lambda: -1)
_raw_alloc, _raw_delete = (
    _internal("_cuda_cudaCachingAllocator_raw_alloc"),
    _internal("_cuda_cudaCachingAllocator_raw_delete"),
)


@cache
def _alone() -> bool:
    """Whether there is one GPU, which then is the current one."""
    return torch.cuda.device_count() == 1


def workspace(device: int, size: int) -> tuple[int, int, Callable[[int], Any]]:
    stream = _stream(device)
    if _raw_delete and (_alone() or _current_device() == device):
        return stream, _raw_alloc(size, stream), _raw_delete
    memory = torch.empty(size, dtype=torch.uint8, device=torch.device("cuda", device))
    return stream, memory.data_ptr(), lambda _, memory=memory: None


def fallback(reason: str, a: Arguments) -> Any:
    return _sdpa.serving(a)


# ---- the operator ---------------------------------------------------------------------------------------------------

_SCHEMA = (
    "attention(Tensor q, Tensor k, Tensor v, str layout, str causal, float? scale, Tensor? mask, Tensor? kv_lens, "
    "Tensor? cu_seqlens_q, Tensor? cu_seqlens_k, SymInt? max_seqlen_q, SymInt? max_seqlen_k, SymInt[]? window, "
    "str accuracy, bool return_lse) -> (Tensor out, Tensor lse)"
)


def _traced(a: Arguments) -> Any:
    for name, x in (("q", a.q), ("k", a.k), ("v", a.v), ("mask", a.mask)):
        if x is not None and x.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(_GRAD.format(name))
        if isinstance(x, Tensor) and forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None:
            raise RuntimeError(f"{name} has a tangent, and clary no forward-mode derivative. Use torch's SDPA.")
    return _operator(a)


def _operator(a: Arguments) -> Any:
    lengths = [
        x if x is None or isinstance(x, Tensor) else torch.tensor(x, device=a.q.device)
        for x in (a.kv_lens, a.cu_seqlens_q, a.cu_seqlens_k)
    ]
    words = a.layout, _call.causal_word(a.causal), a.scale, a.mask, *lengths, a.max_seqlen_q, a.max_seqlen_k
    out, lse = torch.ops.clary.attention(
        a.q, a.k, a.v, *words, _call.window_pair(a.window), a.accuracy, bool(a.return_lse)
    )
    if a.out is not None:
        out = a.out.copy_(out)
    return (out, lse) if a.return_lse else out


def _kernel(q: Tensor, k: Tensor, v: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    answer = _attend(_self, signature(q, k, v), q, k, v, *args, None)
    return answer if args[-1] else (answer, q.new_empty(0, dtype=torch.float32))


def _fake(q: Tensor, k: Tensor, v: Tensor, layout: str, *args: Any) -> tuple[Tensor, Tensor]:
    rows = list(q.shape[:-1])
    out = q.new_empty([*rows, v.shape[-1]])
    if layout == "NHD":
        rows[-2:] = rows[-1], rows[-2]
    return out, q.new_empty(rows if args[-1] else [0], dtype=torch.float32)


# On torch's threads, which spin for a while after torch's own work, instead of beside them.
_lib.load().clary_use_openmp(b"libtorch_cpu.so")

_operators = torch.library.Library("clary", "DEF")
_operators.define(_SCHEMA, tags=(torch.Tag.pt2_compliant_tag,))
_operators.impl("attention", _kernel, "CompositeExplicitAutograd")
torch.library.register_fake("clary::attention", _fake, lib=_operators)
_grad.register(_operators)
