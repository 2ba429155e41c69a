"""diffusers: model.set_attention_backend("clary"), through its attention dispatcher (0.35 and newer).

The dispatcher lists its backends in an Enum and a registry; clary adds members and rows to both. Its backends that fetch
a SageAttention kernel from a hub get clary's functions of that interface instead.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

from torch import Tensor

from .. import attention as clary_attention
from ..compat._serve import settings
from . import NAMES

_HUB = {"SAGE_HUB": ("sageattention", "sageattn"), "SAGE_BLACKWELL_HUB": ("sageattn3", "sageattn3_blackwell")}


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    _parallel_config: Any = None,
    accuracy: str | None = None,
) -> Any:
    """query [B, Lq, Hq, D], key [B, Lk, Hkv, D], value [B, Lk, Hkv, Dv] -> out [B, Lq, Hq, Dv]; with return_lse also lse [B, Hq, Lq].

    attn_mask is [B, Lk], or broadcasts to [B, Hq, Lq, Lk]; bool or additive.
    """
    if dropout_p:
        raise NotImplementedError(f'clary has no dropout ({dropout_p}). Use the backend "native" to train with it.')
    if _parallel_config is not None:
        raise NotImplementedError('"clary" does not split a sequence over devices. Use the backend "sage" for that.')
    if attn_mask is not None and attn_mask.shape == (query.shape[0], key.shape[1]):
        attn_mask = attn_mask[:, None, None]
    return clary_attention(
        query, key, value, layout="NHD", causal=is_causal, scale=scale, mask=attn_mask, return_lse=return_lse,
        accuracy=accuracy or settings.accuracy or "standard", grad=settings.grad,
    )  # fmt: skip


def install() -> None:
    """Puts the names of NAMES on the dispatcher's list."""
    from diffusers.models import attention_dispatch as dispatch

    for name, accuracy in NAMES.items():
        member = _add_member(dispatch.AttentionBackendName, name)
        dispatch._AttentionBackendRegistry.register(member)(partial(attention, accuracy=accuracy))
    for member, (module, function) in _HUB.items():
        if hasattr(dispatch.AttentionBackendName, member):
            row = dispatch._HUB_KERNELS_REGISTRY[dispatch.AttentionBackendName[member]]
            row.kernel_fn = getattr(import_module(f"clary.compat.{module}"), function)


def uninstall() -> None:
    from diffusers.models import attention_dispatch as dispatch

    registry, names = dispatch._AttentionBackendRegistry, dispatch.AttentionBackendName
    if registry._active_backend in NAMES:
        registry._active_backend = names.NATIVE
    for name in NAMES:
        for table in (registry._backends, registry._constraints, registry._supported_arg_names):
            table.pop(name, None)
        if name in names._value2member_map_:
            del names._value2member_map_[name], names._member_map_[name.upper()]
            names._member_names_.remove(name.upper())
            type.__delattr__(names, name.upper())
    for member in _HUB:
        if hasattr(names, member):
            dispatch._HUB_KERNELS_REGISTRY[names[member]].kernel_fn = None


def _add_member(names: Any, value: str) -> Any:
    """A member of an Enum of strings after the fact: what its metaclass does for each when the class is made."""
    if value in names._value2member_map_:
        return names(value)
    member = str.__new__(names, value)
    member._name_, member._value_ = value.upper(), value
    type.__setattr__(names, member._name_, member)
    names._member_names_.append(member._name_)
    names._member_map_[member._name_] = names._value2member_map_[value] = member
    return member
