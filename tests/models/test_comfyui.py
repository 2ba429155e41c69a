"""ComfyUI's calls, replayed: what comfy/ldm/modules/attention.py does with sageattention, sageattn3 and an override.

ComfyUI is no package of the index, so `Comfy` says its side of the contract (commits a125cd8 of 2025-10 and 05080f6 of
2026): the probe of the signature, both layouts, masks of 2 to 4 dimensions, and torch's attention after any exception.
Where COMFYUI names a checkout whose requirements are there, its own file makes the calls too.
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import reference
import torch
from torch.nn.functional import scaled_dot_product_attention
from zoo import error, noise

import clary

BATCH, HEADS, TOKENS = 2, 4, 200


class Comfy:
    """The same attention as ComfyUI offers it: by torch, by a sageattn, and by what a node put over it."""

    def __init__(self) -> None:
        self.fell_back: list[str] = []

    def pytorch(
        self,
        q: Any,
        k: Any,
        v: Any,
        heads: int,
        mask: Any = None,
        attn_precision: Any = None,
        *where: Any,
        **options: Any,
    ) -> torch.Tensor:
        options |= dict(zip(("skip_reshape", "skip_output_reshape"), where))
        if not options.get("skip_reshape"):
            q, k, v = (x.unflatten(-1, (-1, q.shape[-1] // heads)).transpose(1, 2) for x in (q, k, v))
        mask = None if mask is None else mask.reshape(*(1,) * (4 - mask.dim()), *mask.shape) if mask.dim() < 3 else mask
        mask = mask[:, None] if mask is not None and mask.dim() == 3 else mask
        grouped = options.get("enable_gqa", False)
        out = scaled_dot_product_attention(q, k, v, mask, scale=options.get("scale"), enable_gqa=grouped)
        return out if options.get("skip_output_reshape") else out.transpose(1, 2).flatten(2)

    def sage(self, q: Any, k: Any, v: Any, heads: int, mask: Any = None, **options: Any) -> torch.Tensor:
        from sageattention import sageattn

        assert "attn_mask" in inspect.signature(sageattn).parameters  # else it keeps masked calls to itself
        layout = "HND" if options.get("skip_reshape") else "NHD"
        four = (
            (q, k, v)
            if layout == "HND"
            else [x.reshape(x.shape[0], -1, heads, x.shape[-1] // heads) for x in (q, k, v)]
        )
        words = {"is_causal": False, "tensor_layout": layout, "sm_scale": options.get("scale"), "smooth_k": False}
        if mask is not None:
            mask = mask[None] if mask.dim() == 2 else mask
            words["attn_mask"] = mask[:, None] if mask.dim() == 3 else mask
        try:
            out = sageattn(*four, **words)
        except Exception as failure:
            self.fell_back.append(str(failure))
            return self.pytorch(q, k, v, heads, mask, **options)
        out = out if layout == "HND" else out.transpose(1, 2)
        return out if options.get("skip_output_reshape") else out.transpose(1, 2).flatten(2)

    def overridden(self, q: Any, k: Any, v: Any, heads: int, mask: Any = None, **options: Any) -> torch.Tensor:
        override = options["transformer_options"]["optimized_attention_override"]
        return override(self.pytorch, q, k, v, heads, mask=mask, **options, _inside_attn_wrapper=True)


@pytest.fixture
def options() -> Any:
    """transformer_options of a model that went through the node."""
    import comfyui

    model = SimpleNamespace(model_options={"transformer_options": {"other": 1}})
    model.clone = lambda: SimpleNamespace(model_options=dict(model.model_options))
    node = comfyui.NODE_CLASS_MAPPINGS["ClaryAttention"]
    assert node.INPUT_TYPES()["required"]["accuracy"][0][0] == "standard"
    (patched,) = getattr(node(), node.FUNCTION)(model, "standard")
    assert model.model_options == {"transformer_options": {"other": 1}}
    assert patched.model_options["transformer_options"]["other"] == 1
    return patched.model_options["transformer_options"]


MASKS = {
    "none": None,
    "2d": noise(TOKENS, TOKENS),
    "3d": noise(BATCH, TOKENS, TOKENS),
    "4d": noise(BATCH, 1, TOKENS, TOKENS) > -1,
    "bool": noise(TOKENS, TOKENS) > -1,
    "1-batch": noise(1, HEADS, TOKENS, TOKENS),
}


def tensors(head_dim: int, skip_reshape: bool, dtype: torch.dtype) -> list[torch.Tensor]:
    shape = (BATCH, HEADS, TOKENS, head_dim) if skip_reshape else (BATCH, TOKENS, HEADS * head_dim)
    return [noise(*shape, seed=seed).to(dtype) for seed in range(3)]


def check(comfy: Comfy, attend: Any, qkv: Any, heads: int = HEADS, **options: Any) -> None:
    bound = reference.BOUND["standard", "short"] + reference.ROUNDING[str(qkv[0].dtype)[6:].replace("loat", ""),]
    got = attend(*qkv, heads, **options)
    want = comfy.pytorch(*(x.float() for x in qkv), heads, **options)
    assert got.dtype == qkv[0].dtype and got.shape == want.shape
    assert error(got.float(), want) <= bound


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("skip_reshape", [False, True], ids=["NHD", "HND"])
def test_calls(skip_reshape: bool, mask: str, options: Any, calls: Any) -> None:
    comfy = Comfy()
    with clary.enable("sageattention"):
        for dtype in (torch.float16, torch.bfloat16, torch.float32):
            for head_dim in (40, 64, 128):
                words = {"mask": MASKS[mask], "skip_reshape": skip_reshape, "skip_output_reshape": head_dim == 64}
                qkv = tensors(head_dim, skip_reshape, dtype)
                check(comfy, comfy.sage, qkv, **words)
                check(comfy, comfy.overridden, qkv, **words, transformer_options=options)
    assert not comfy.fell_back and sum(calls().values()) == 18


def test_scale_and_grouped_heads(options: Any, calls: Any) -> None:
    comfy, (q, k, v) = Comfy(), tensors(64, True, torch.float32)
    words = {"scale": 0.05, "skip_reshape": True, "transformer_options": options}
    with clary.enable("sageattention"):
        check(comfy, comfy.sage, (q, k, v), **words)
    check(comfy, comfy.overridden, (q, k, v), **words)
    check(comfy, comfy.overridden, (q, k[:, :1], v[:, :1]), **words, enable_gqa=True)
    assert sum(calls().values()) == 3


def test_the_models_wish_for_precision(options: Any, calls: Any) -> None:
    comfy, qkv = Comfy(), tensors(64, False, torch.float32)
    for words in ({}, {"mask": MASKS["3d"], "skip_output_reshape": True}):
        got = comfy.overridden(*qkv, HEADS, transformer_options=options, low_precision_attention=False, **words)
        assert torch.equal(got, comfy.pytorch(*qkv, HEADS, **words)) and not calls()


def test_an_exception_leaves_torch(options: Any) -> None:
    comfy, (q, k, v) = Comfy(), tensors(64, True, torch.float32)
    with clary.enable("sageattention"):
        for wrong in ((q.double(), k.double(), v.double()), (q, k, v.half())):
            try:
                want = comfy.pytorch(*wrong, HEADS, skip_reshape=True)
            except Exception:  # torch's attention refuses it too
                with pytest.raises(RuntimeError):
                    comfy.sage(*wrong, HEADS, skip_reshape=True)
            else:
                assert torch.equal(comfy.sage(*wrong, HEADS, skip_reshape=True), want)
        assert len(comfy.fell_back) == 2 and all("q is" in said or "dtype" in said for said in comfy.fell_back)


def test_wide_heads() -> None:
    """A VAE's, past 256: served by torch, counted with the reason."""
    comfy, qkv = Comfy(), tensors(512, True, torch.float32)
    with clary.enable("sageattention"):
        check(comfy, comfy.sage, qkv, skip_reshape=True)
    assert not comfy.fell_back
    ((reason, count),) = clary.stats()["fallbacks"].items()
    assert count == 1 and "256" in reason


def test_sageattn3(calls: Any) -> None:
    with clary.enable("sageattn3"):
        from sageattn3 import sageattn3_blackwell

        q, k, v = tensors(64, True, torch.bfloat16)
        before = k.clone()
        got = sageattn3_blackwell(q, k, v, is_causal=False)
    want = scaled_dot_product_attention(q.float(), k.float(), v.float())
    assert torch.equal(k, before) and sum(calls().values()) == 1
    assert error(got.float(), want) <= reference.BOUND["standard", "short"] + reference.ROUNDING["bf16",]


def test_without_clary_the_import_error_names_the_package() -> None:
    clary.disable("sageattention")
    try:
        import sageattention  # noqa: F401
    except ImportError as missing:
        assert missing.name == "sageattention"  # any other name, and ComfyUI raises it
    else:
        pytest.fail("sageattention is importable though nothing enabled it")


REAL = """
import os, sys
from clary import _switch
_switch.enable_from_environment()
sys.argv = ["main.py", "--cpu", "--use-sage-attention"]
sys.path[:0] = [os.environ["COMFYUI"], os.environ["EXAMPLES"]]
import comfy.options
comfy.options.enable_args_parsing()
import torch
import clary, comfyui
from comfy.ldm.modules import attention

assert attention.optimized_attention is attention.attention_sage
override = {"optimized_attention_override": comfyui.override("standard")}
masks = [None, torch.randn(200, 200), torch.randn(2, 200, 200), torch.randn(2, 1, 200, 200) > -1]
for head_dim in (40, 64, 128, 512):
    for skip in (False, True):
        for mask in masks:
            qkv = [torch.randn(2, 4, 200, head_dim) if skip else torch.randn(2, 200, 4 * head_dim) for _ in range(3)]
            words = {"mask": mask, "skip_reshape": skip}
            want = attention.attention_pytorch(*qkv, 4, **words)
            clary.stats(reset=True)
            sage = attention.optimized_attention(*qkv, 4, **words)
            node = attention.attention_pytorch(*qkv, 4, **words, transformer_options=override)
            stats = clary.stats()
            assert stats["calls"] == 2 and not stats["errors"], stats
            for got in (sage, node):
                print(float((got - want).norm() / want.norm()))
"""


@pytest.mark.skipif("COMFYUI" not in os.environ, reason="COMFYUI names no checkout of ComfyUI")
def test_the_real_one(python: Any) -> None:
    printed = python(REAL, CLARY_ENABLE="sageattention", EXAMPLES=str(Path(__file__).parents[2] / "examples"))
    errors = [float(line) for line in printed.splitlines() if line[:1].isdigit()]
    assert len(errors) == 64 and max(errors) <= reference.BOUND["standard", "short"]
