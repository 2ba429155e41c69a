"""What the compat modules share: a call in upstream's words, torch's or FlashAttention's becomes one of clary.attention."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from .. import attention

F = TypeVar("F", bound=Callable[..., Any])


class Settings:
    """What clary.enable() set for the whole process."""

    accuracy: str | None = None  # of every call; None leaves each function its own
    grad: str = "refuse"


settings = Settings()

# Words that callers carry over from torch's SDPA and from FlashAttention, and clary.attention's for the same thing.
_SAME = {"query": "q", "key": "k", "value": "v", "scale": "scale", "sm_scale": "scale", "softmax_scale": "scale"}
_WINDOW = {"window_size_left": 0, "window_size_right": 1}  # which side of it
_NEUTRAL: dict[str, Any] = {  # served at the value that means "not asked for"
    "alibi_slopes": None,
    "block_table": None,
    "return_attn_probs": False,
    "return_softmax": False,
    "softcap": 0.0,
}
_ALWAYS_SO = {
    "deterministic",
    "enable_gqa",
}  # whatever the caller says: every result is, grouped heads always are served


def serve(q: Any, k: Any, v: Any, accuracy: str, **words: Any) -> Any:
    """clary.attention under the settings of the process."""
    return attention(q, k, v, accuracy=settings.accuracy or accuracy, grad=settings.grad, **words)


def dense(
    function: Callable[..., Any],
    accuracy: str,
    qkv: tuple[Any, Any, Any],
    layout: Any,
    words: dict[str, Any],
    others: dict[str, Any],
    places: tuple[Any, Any] | None = None,
    checks: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (),
) -> Any:
    """One call of a function of upstream's family.

    words    causal, scale, mask and return_lse, as given by upstream's names
    others   keywords that upstream does not have
    places   arguments 5 and 6, which are dropout_p and is_causal to a caller who takes the function for torch's SDPA;
             None where it cannot be taken for that
    checks   name, value and allowed values of words that choose nothing here
    """
    if type(layout) is not str:
        if not places:
            raise TypeError(f"{function.__name__}: tensor_layout is a {type(layout).__name__}. Use 'HND' or 'NHD'.")
        return _as_sdpa(function, accuracy, qkv, layout, words, others, places)
    for name, value, allowed in checks:
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}. Use one of {', '.join(map(repr, allowed))}.")
    if not others:
        return serve(*qkv, accuracy, layout=layout, **words)
    if places and ("query" in others or others.get("dropout_p")):
        return _as_sdpa(function, accuracy, qkv, layout, words, others, (0.0, words["causal"]))
    qkv, words, dropout = _translate(function, qkv, words, others)
    if dropout:
        raise NotImplementedError(f"{function.__name__}: dropout_p={dropout} is not served. Leave it out.")
    return serve(*qkv, accuracy, layout=layout, **words)


def _translate(function: Any, qkv: tuple[Any, ...], words: dict[str, Any], others: dict[str, Any]) -> Any:
    """q, k and v; clary.attention's words; dropout."""
    tensors, words, dropout = dict(zip("qkv", qkv)), dict(words), 0.0
    window = [-1, -1]
    for name, value in others.items():
        if name in _SAME:
            (tensors if _SAME[name] in tensors else words)[_SAME[name]] = value
        elif name == "causal":  # FlashAttention's, where the last query sees the last key
            words["causal"] = "lower_right" if value else words["causal"]
        elif name == "dropout_p":
            dropout = value
        elif name == "window_size":
            window = list(value)
        elif name in _WINDOW:
            window[_WINDOW[name]] = value
        elif name in _NEUTRAL:
            if value is not None and value != _NEUTRAL[name]:
                raise NotImplementedError(f"{function.__name__}: {name}={value!r} is not served. Leave it out.")
        elif name not in _ALWAYS_SO:
            known = [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
            raise TypeError(f"{function.__name__}() has no argument {name!r}. It has {', '.join(known)}.")
    missing = [name for name, value in tensors.items() if value is None]
    if missing:
        raise TypeError(f"{function.__name__}() misses {', '.join(missing)}.")
    if window != [-1, -1]:
        words["window"] = tuple(window)
    return tuple(tensors.values()), words, dropout


def _as_sdpa(
    function: Any,
    accuracy: str,
    qkv: tuple[Any, ...],
    mask: Any,
    words: dict[str, Any],
    others: Any,
    places: tuple[Any, Any],
) -> Any:
    """`function` stands where a program calls torch's scaled_dot_product_attention: that contract, its errors too."""
    from .sdpa import serve_sdpa

    fifth, sixth = places
    qkv, words, dropout = _translate(function, qkv, words, others)
    causal = fifth is True or sixth is True or words["causal"] is True  # by place, or by name
    scale = None if isinstance(words["scale"], bool) else words["scale"]  # sageattn's sixth
    if isinstance(fifth, float):
        dropout = fifth or dropout
    if words.pop("return_lse") or words.get("window"):
        raise TypeError(f"{function.__name__}() was called in torch's way, which has no return_lse and no window.")
    if not isinstance(mask, str) and mask is not None:
        words["mask"] = mask
    q, k, v = qkv
    return serve_sdpa(q, k, v, words["mask"], dropout, causal, scale, True, accuracy)


def requires_qkv(function: F) -> F:
    """Shows q, k and v as required, which they are: they default to None so that query, key and value can stand in."""
    signature = inspect.signature(function)
    shown = [p.replace(default=p.empty) if p.name in "qkv" else p for p in signature.parameters.values()]
    function.__signature__ = signature.replace(parameters=shown)  # type: ignore[attr-defined]
    return function
