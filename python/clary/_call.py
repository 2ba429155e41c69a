"""One attention call, whatever the arrays: words to numbers, any layout to [B, H, L, D], one packed struct, one C call.

A backend is a module that knows one kind of array and offers the functions of `Backend`. Shapes, strides and ranges are
the library's to judge; only what its struct cannot express is refused here. A plain call (no mask, lengths, lse or out)
is packed once for its shapes and words; after that only its four pointers are written.
"""

from __future__ import annotations

import json
import operator
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from typing import Any, NamedTuple, Protocol

from . import _lib
from ._lib import (
    HEAD_SLICE,
    K_WORD,
    NOT_SLOWER,
    OK,
    OUT_WORD,
    Q_WORD,
    SIZE_WORD,
    STREAM_WORD,
    V_WORD,
    WORKSPACE_TOO_SMALL,
    WORKSPACE_WORD,
    idle,
)  # fmt: skip


class Arguments(NamedTuple):
    """clary.attention's, in its order."""

    q: Any
    k: Any
    v: Any
    layout: Any = "HND"
    causal: Any = False
    scale: Any = None
    mask: Any = None
    kv_lens: Any = None
    cu_seqlens_q: Any = None
    cu_seqlens_k: Any = None
    max_seqlen_q: Any = None
    max_seqlen_k: Any = None
    window: Any = None
    accuracy: Any = "standard"
    return_lse: Any = False
    out: Any = None


class View(NamedTuple):
    data: int
    shape: Sequence[int]
    stride: Sequence[int]  # elements
    dtype: int  # clary_dtype
    device: int  # -1 = CPU
    owner: Any  # of the memory


class Backend(Protocol):
    def view(self, x: Any, name: str, broadcast: bool = False) -> View:
        """x in place, or a copy of it if its last stride is not 1 (with `broadcast`: nor 0)."""

    def signature(self, q: Any, k: Any, v: Any) -> Hashable:
        """All that view() says of the three but the pointers; None where view() itself must see them."""

    def data(self, x: Any) -> int:
        """The pointer."""

    def empty(self, q: Any, shape: Sequence[int], f32: bool = False) -> Any:
        """An uninitialised contiguous array where q is, of q's dtype unless f32."""

    def empty_like(self, q: Any) -> Any:
        """The same of q's shape, q being contiguous."""

    def int32(self, x: Any, q: Any, name: str) -> tuple[int, int, Any]:
        """Pointer, length and owner of a 1-d integer array as int32 where q is."""

    def workspace(self, device: int, size: int) -> tuple[int, int, Callable[[int], Any]]:
        """The CUstream the caller works on; memory of the caller's allocator for work queued there, and what takes it back."""

    def fallback(self, reason: str, a: Arguments) -> Callable[[Any, Any, Any], Any]:
        """What serves calls like this one without the library, of their q, k and v; or raises NotImplementedError."""


_LAYOUTS = {"HND": 0, "NHD": 1}
_CAUSAL = {False: 0, True: 1, "none": 0, "upper_left": 1, "lower_right": 2}
_ACCURACY = {"standard": 0, "exact": 1, "high": 2, "fast": 3}
_GRAD = {"refuse": 0, "recompute": 1}


class Refusal(NamedTuple):
    reason: str
    serve: Callable[[Any, Any, Any], Any]


class Ready(NamedTuple):
    head: memoryview  # the HEAD part
    empty: Callable[[Any], Any]  # out, of q
    device: int
    workspace: int  # bytes, on a GPU
    variant: bytes  # on a GPU; of a CPU's the library is asked, since threads may have a say in it


# What plain calls of these shapes and words come to; or why the library does not serve them, and what does.
_plans: dict[Hashable, Ready | Refusal] = {}
_MAX_PLANS = 1024
_flags = NOT_SLOWER  # of every call: policy()

_baseline: Counter[tuple[str, str]] = Counter()  # at the last reset of stats()
_baseline_lock = Lock()


def attend(backend: Backend, signature: Hashable, *args: Any) -> Any:
    """clary.attention on one backend; args are Arguments, and backend.signature() of the first three goes before them."""
    key = plan = lse = variant = None
    try:
        frame = idle.pop()
    except IndexError:
        frame = _lib.new_frame()
    try:
        q, k, v, layout, causal, scale, mask, kv_lens, cu_q, cu_k, _, _, window, accuracy, return_lse, out = args
        if signature is not None and (mask is kv_lens is cu_q is cu_k is out is None) and not return_lse:
            if scale is not None:
                scale = float(scale)
            if window is not None:
                window = window_pair(window)
            key = (signature, layout, causal, scale, window, accuracy)
            plan = _plans.get(key)
        try:
            if plan is not None:
                if isinstance(plan, Refusal):
                    out = plan.serve(q, k, v)
                    frame.counts["fallbacks", plan.reason] += 1
                    return out
                head, empty, device, size, variant = plan
                out = empty(q)
                words, data = frame.words, backend.data
                words[HEAD_SLICE] = head
                words[Q_WORD], words[K_WORD], words[V_WORD], words[OUT_WORD] = data(q), data(k), data(v), data(out)
                if frame.extras:
                    frame.clear_extras()
            else:
                out, lse, device, owners = pack(frame, backend, Arguments(*args))
                size = 0 if device < 0 else frame.workspace_size()
            if device < 0:
                status = frame.run(frame.address)
                if status == WORKSPACE_TOO_SMALL:
                    status = frame.run_grown()
            else:
                stream, memory, give_back = backend.workspace(device, size)
                words = frame.words
                words[WORKSPACE_WORD], words[SIZE_WORD], words[STREAM_WORD] = memory, size, stream
                try:
                    status = frame.run(frame.address)
                finally:
                    words[WORKSPACE_WORD] = words[SIZE_WORD] = words[STREAM_WORD] = 0
                    give_back(memory)  # to whoever is next on the stream
            if status != OK:
                raise _lib.error(status)
        except _lib.NotSupported as error:
            return _fall_back(frame, backend, str(error), key, Arguments(*args))
        if not variant:
            variant = frame.variant()
            if plan is None and key is not None and owners[0] is q and owners[1] is k and owners[2] is v:
                _remember(key, _ready(frame, backend, out, device, size, variant))
        frame.counts[variant] += 1
        return out if lse is None else (out, lse)
    except Exception as error:
        frame.counts["errors", type(error).__name__] += 1
        raise
    finally:
        idle.append(frame)


def _ready(frame: _lib.Frame, backend: Backend, out: Any, device: int, workspace: int, variant: bytes) -> Ready:
    shape = out.shape
    empty = backend.empty_like if frame.out_is_like_q() else lambda q: backend.empty(q, shape)
    return Ready(frame.head(), empty, device, workspace, variant if device >= 0 else b"")


def _remember(key: Hashable, plan: Any) -> None:
    if len(_plans) >= _MAX_PLANS:
        _plans.clear()
    _plans[key] = plan


def _fall_back(frame: _lib.Frame, backend: Backend, reason: str, key: Hashable, a: Arguments) -> Any:
    refusal = Refusal(reason, backend.fallback(reason, a))
    if key is not None:
        _remember(key, refusal)
    out = refusal.serve(a.q, a.k, a.v)
    frame.counts["fallbacks", reason] += 1
    return out


def count(kind: str, why: str) -> None:
    """One more of stats(). A frame has one owner at a time, so this needs no lock."""
    try:
        frame = idle.pop()
    except IndexError:
        frame = _lib.new_frame()
    frame.counts[kind, why] += 1
    idle.append(frame)


def pack(frame: _lib.Frame, backend: Backend, a: Arguments, allocate: bool = True) -> tuple[Any, Any, int, list[Any]]:
    """Fills frame.args. Returns out and lse (None unless `allocate`), the device, and what the call needs alive."""
    q, k, v = backend.view(a.q, "q"), backend.view(a.k, "k"), backend.view(a.v, "v")
    owners = [q.owner, k.owner, v.owner]
    shape = (*q.shape[:-1], *v.shape[-1:])
    out = backend.empty(a.q, shape) if a.out is None and allocate else a.out
    o = View(0, shape, contiguous(shape), q.dtype, q.device, None) if out is None else backend.view(out, "out")
    if o.owner is not out:
        raise ValueError("out has a last stride other than 1. Give it a contiguous last dimension.")
    if not q.device == k.device == v.device == o.device:
        raise ValueError("q, k, v and out are not on one device. Move them to q's.")
    if not len(q.shape) == len(k.shape) == len(v.shape) == len(o.shape):
        raise ValueError("q, k, v and out differ in their number of dimensions. Give each a batch dimension, or none.")
    nhd = _word("layout", a.layout, _LAYOUTS)
    q, k, v, o = _bhld(q, nhd), _bhld(k, nhd), _bhld(v, nhd), _bhld(o, nhd)
    flags = (
        _flags | _lib.FULL_WORKSPACE | (a.scale is not None) * _lib.HAS_SCALE | (a.window is not None) * _lib.HAS_WINDOW
    )
    accuracy, causal = _word("accuracy", a.accuracy, _ACCURACY), _word("causal", a.causal, _CAUSAL)
    scale, window = 0.0 if a.scale is None else float(a.scale), window_pair(a.window) or (0, 0)
    words = (_lib.SIZE, flags, q.device >= 0, max(q.device, 0), accuracy, causal, scale, *window)
    _lib.HEAD.pack_into(frame.args, 0, *words, *_tensor(q), *_tensor(k), *_tensor(v), *_tensor(o))

    lse, lse_tensor, mask_tensor = None, _ABSENT, _ABSENT
    batch, heads, queries, _ = q.shape
    if a.return_lse:
        rows = (batch, heads, queries)
        lse = backend.empty(a.q, rows if len(shape) == 4 else rows[1:], True) if allocate else None
        lse_data = 0 if lse is None else backend.data(lse)
        lse_tensor = (lse_data, *rows, 1, *contiguous(rows), 1, _lib.F32, 0)
    if a.mask is not None:
        mask = backend.view(a.mask, "mask", True)
        if mask.device != q.device:
            raise ValueError("mask is not on q's device. Move it there.")
        mask_tensor = _tensor(_broadcast(mask, (batch, heads, queries, k.shape[2])))
        owners.append(mask.owner)
    lengths, counts = [0, 0, 0], [batch, 1, 1]
    for i, name in enumerate(("kv_lens", "cu_seqlens_q", "cu_seqlens_k")):
        if getattr(a, name) is not None:
            lengths[i], counts[i], owner = backend.int32(getattr(a, name), a.q, name)
            owners.append(owner)
    if counts[0] != batch:
        raise ValueError(f"kv_lens has {counts[0]} entries for {batch} batch entries. Give one length for each.")
    if lengths[1] and lengths[2] and counts[1] != counts[2] or 0 in counts[1:]:
        raise ValueError("cu_seqlens_q and _k differ in length or are empty. Both have one entry more than sequences.")
    longest = (0 if n is None else operator.index(n) for n in (a.max_seqlen_q, a.max_seqlen_k))
    frame.extras = True
    _lib.EXTRAS.pack_into(frame.args, _lib.EXTRAS_AT, *lse_tensor, *mask_tensor, *lengths, counts[1] - 1, *longest)
    return out, lse, q.device, owners


_ABSENT: tuple[int, ...] = (0,) * 11


def _tensor(x: View) -> tuple[int, ...]:
    return (x.data, *x.shape, *x.stride, x.dtype, 0)


def _word(name: str, value: Any, table: dict[Any, int]) -> int:
    try:
        return table[value]
    except (KeyError, TypeError):
        raise ValueError(f"{name} is {value!r}. Use one of {', '.join(map(repr, table))}.") from None


def causal_word(causal: Any) -> Any:
    return {False: "none", True: "upper_left"}.get(causal, causal)


def window_pair(window: Any) -> tuple[int, int] | None:
    """None, w or (left, right) -> None or (left, right) with -1 for no limit."""
    if window is None:
        return None
    left, right = window if isinstance(window, (tuple, list)) else (window, window)
    return (-1 if left is None else operator.index(left), -1 if right is None else operator.index(right))


def contiguous(shape: Sequence[int]) -> list[int]:
    """The strides of an array of that shape without gaps."""
    stride = [1]
    for n in reversed(shape[1:]):
        stride.insert(0, stride[0] * max(n, 1))
    return stride


def _bhld(x: View, nhd: int) -> View:
    shape, stride = x.shape, x.stride
    if len(shape) == 3:
        shape, stride = (1, *shape), (0, *stride)
    if len(shape) != 4:
        order = "L, H, D" if nhd else "H, L, D"
        raise ValueError(f"q, k and v have {len(shape)} dimensions. Pass [B, {order}] or [{order}].")
    if nhd:
        shape, stride = ((y[0], y[2], y[1], y[3]) for y in (shape, stride))
    if 0 in shape:  # NumPy's empty arrays have any strides
        stride = contiguous(shape)
    return x._replace(shape=shape, stride=stride)


def _broadcast(mask: View, want: Sequence[int]) -> View:
    missing = 4 - len(mask.shape)
    if missing < 0 or any(n not in (1, w) for n, w in zip(mask.shape, want[missing:])):
        raise ValueError(f"mask has shape {list(mask.shape)}. It must broadcast to [B, Hq, Lq, Lk] = {list(want)}.")
    return mask._replace(
        shape=want, stride=[0] * missing + [0 if n == 1 else s for n, s in zip(mask.shape, mask.stride)]
    )


class Explanation(NamedTuple):
    """What a call would do. Prints as text."""

    variant: str
    reason: str
    plan: dict[str, Any]  # the library's own account; empty for a fallback
    text: str

    def __str__(self) -> str:
        return self.text


def explain(backend: Backend, fallback: str, *args: Any) -> Explanation:
    """clary.explain; `fallback` names what serves a problem that the library does not."""
    frame = _lib.new_frame()
    try:
        pack(frame, backend, Arguments(*args), allocate=False)
        frame.workspace_size()  # refuses what attend() would refuse
        function = _lib.load().clary_explain
        plan = json.loads(_lib.text(function, frame.address, 1))
        return Explanation(plan["variant"], plan["reason"], plan, _lib.text(function, frame.address, 0))
    except _lib.NotSupported as error:
        return Explanation(fallback, str(error), {}, f"{fallback}: {error}")
    finally:
        idle.append(frame)


def policy(never_slower: bool | None) -> dict[str, Any]:
    global _flags
    if never_slower is not None:
        _flags = NOT_SLOWER if never_slower else 0
        _plans.clear()
    return {"never_slower": bool(_flags & NOT_SLOWER)}


def stats(reset: bool) -> dict[str, Any]:
    global _baseline
    total: Counter[tuple[str, str]] = Counter()
    for frame in _lib.frames.copy():
        for what, count in frame.counts.copy().items():
            total[("variants", what.decode()) if isinstance(what, bytes) else what] += count
    with _baseline_lock:
        since = total - _baseline
        if reset:
            _baseline = total
    answer: dict[str, Any] = {"calls": sum(since.values()), "variants": {}, "fallbacks": {}, "errors": {}}
    for (kind, why), count in sorted(since.items()):
        answer[kind][why] = count
    return answer
