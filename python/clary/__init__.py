"""clary: low-bit attention for torch tensors, NumPy arrays and anything with ``__dlpack__``.

Importing this package imports neither NumPy nor torch, and never fails for want of a library, a device or a driver: the
module that serves an array's type is imported when the first such array arrives, libclary.so when a call needs it.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._call import Explanation
    from ._switch import Enabled

__all__ = ["attention", "disable", "doctor", "enable", "explain", "info", "set_threads", "stats"]

_backends: dict[type, ModuleType] = {}  # type of q -> the module that serves it


def _find_backend(q: Any) -> ModuleType:
    # Whoever holds an instance of a class has imported its package.
    backend: ModuleType
    if "torch" in sys.modules and isinstance(q, sys.modules["torch"].Tensor):
        from . import _torch as backend
    elif "numpy" in sys.modules and isinstance(q, sys.modules["numpy"].ndarray):
        from . import _numpy as backend
    elif hasattr(q, "__dlpack__"):
        from . import _dlpack as backend
    else:
        raise TypeError(f"q is a {type(q).__name__}. Pass torch tensors, NumPy arrays or objects with __dlpack__.")
    _backends[type(q)] = backend
    return backend


def attention(
    q: Any,
    k: Any,
    v: Any,
    *,
    layout: str = "HND",
    causal: bool | str = False,
    scale: float | None = None,
    mask: Any = None,
    kv_lens: Any = None,
    cu_seqlens_q: Any = None,
    cu_seqlens_k: Any = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    window: int | tuple[int | None, int | None] | None = None,
    accuracy: str = "standard",
    return_lse: bool = False,
    out: Any = None,
    grad: str = "refuse",
) -> Any:
    """softmax(scale * q k^T + mask) v, in low-bit arithmetic.

    q [B, Hq, Lq, D], k [B, Hkv, Lk, D], v [B, Hkv, Lk, Dv] -> out [B, Hq, Lq, Dv], contiguous, of q's dtype. f16, bf16
    or f32, the same for all three; Hq a multiple of Hkv; D and Dv from 1 to 256. Any of B, H, L may have any strides,
    0 too; only an input whose last stride is not 1 is copied. Without B (3-d) in, without B out.

    layout        "HND" as above, or "NHD": q, k, v and out are [B, L, H, D]; mask and lse stay as they are.
    causal        False; True or "upper_left": query i sees keys 0..i; "lower_right": keys 0..i+Lk-Lq.
    scale         of the scores; None is 1/sqrt(D).
    mask          broadcastable to [B, Hq, Lq, Lk]: bool (True = attend) or f16, bf16, f32 added to the scores.
    kv_lens       int [B]: keys of batch entry b at kv_lens[b] and beyond do not exist.
    cu_seqlens_q, cu_seqlens_k   int [N + 1]: N packed sequences; q is [Hq, total, D] ("HND") or [total, Hq, D] ("NHD").
    max_seqlen_q, max_seqlen_k   upper bounds of the packed lengths, where known.
    window        (left, right): how many keys either side of its own a query sees, None or -1 for all; w is (w, w).
    accuracy      "exact", "high", "standard" or "fast"; the bounds are in docs/numerics.md.
    return_lse    also returns log(sum(exp(scores))), f32 [B, Hq, Lq]; -inf where no key is seen.
    out           where to write: f16, bf16 or f32, last stride 1, memory of its own.
    grad          "refuse" tensors that require grad while grad mode is on, or "recompute": the backward pass is that of
                  torch's scaled_dot_product_attention on the same inputs. Torch only.

    A row that sees no key gives 0. Torch calls that no backend serves run scaled_dot_product_attention; stats() counts
    them. Raises TypeError (dtype, keyword), ValueError (shape, range), NotImplementedError (not served, without torch),
    MemoryError, RuntimeError (a tensor that requires grad, a device's failure, no library).
    """
    backend = _backends.get(type(q)) or _find_backend(q)
    if grad != "refuse":
        backend = backend.differentiable(grad)
    return backend.attention(
        q, k, v, layout, causal, scale, mask, kv_lens, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k,
        window, accuracy, return_lse, out,
    )  # fmt: skip


def explain(q: Any, k: Any, v: Any, **options: Any) -> Explanation:
    """Which variant attention(q, k, v, **options) would run and why, or which fallback. Reads no element, writes none.

    The answer has .variant, .reason and .plan (a dict), and prints as text. Raises as attention does.
    """
    from ._call import Arguments

    options.pop("grad", None)  # no variant depends on it
    answer: Explanation = _find_backend(q).explain(*Arguments(q, k, v, **options))
    return answer


def stats(reset: bool = False) -> dict[str, Any]:
    """Where every call of attention() since the start, or the last reset, went.

    {"calls": n, "variants": {variant: n}, "fallbacks": {reason: n}, "errors": {exception: n}}: "calls" is the sum of
    all others.
    """
    from . import _call

    return _call.stats(reset)


def enable(*names: str, accuracy: str | None = None, grad: str | None = None) -> Enabled:
    """Puts clary in the place of what programs already call, for the whole process, until disable().

    names      "sageattention", "sageattn3", "spas_sage_attn": importing that package, or asking for its version, gives
               clary's module of that interface. "sdpa": torch.nn.functional.scaled_dot_product_attention.
               "transformers", "diffusers": the attentions one chooses there by name include "clary".
    accuracy   of every such call, instead of each function's own.
    grad       "refuse" or "recompute" for every such call, as in attention().

    Call it before the program imports those packages. As a context manager it restores what was before. The environment
    variable CLARY_ENABLE=sageattention,sdpa,accuracy=high does the same for programs one cannot edit.
    """
    from . import _switch

    return _switch.enable(names, accuracy, grad)


def disable(*names: str) -> None:
    """Undoes enable() for those names; for all, and its accuracy and grad, without any."""
    from . import _switch

    _switch.disable(names)


def set_threads(count: int) -> int:
    """Sets the number of CPU threads of the library's pool, 0 for the default; returns the number now in force."""
    from . import _lib

    return int(_lib.load().clary_set_threads(count))


def info() -> dict[str, Any]:
    """This machine as the library sees it: version, devices, instruction sets built and usable, threads."""
    from . import _lib

    return _lib.info()


def doctor(as_json: bool = False, file: Any = None) -> bool:
    """Runs a small problem on every backend here against float64. Prints a table, or JSON; True if all is well."""
    from . import _doctor

    return _doctor.main(as_json, file)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from . import _lib

        return _lib.version()
    raise AttributeError(f"module 'clary' has no attribute {name!r}")
