"""transformers with attn_implementation="clary": small random models beside their own attention."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import reference
import torch
import transformers as hf
import zoo
from zoo import error

import clary

BOUND = {accuracy: bound for (accuracy,), bound in reference.table("CLARY_MODEL").items()}
NAMED = {"clary_exact": "exact", "clary_high": "high", "clary": "standard"}


@pytest.fixture(autouse=True)
def _enabled() -> Any:
    with clary.enable("transformers"):
        yield


@pytest.fixture
def even() -> Any:
    """An attention that weighs all keys alike: what an output would be if attention did not matter."""
    from clary.integrations.transformers import forward, make_mask

    def spread(*args: Any, scaling: Any = None, **others: Any) -> Any:
        return forward(*args, scaling=0.0, **others)

    hf.AttentionInterface.register("even", spread)
    hf.AttentionMaskInterface.register("even", make_mask)


@pytest.mark.parametrize("name", zoo.CASES)
def test_output(name: str, even: Any, calls: Any) -> None:
    want = zoo.run(name, zoo.CASES[name].reference)
    matters = (zoo.run(name, "even") - want).norm()
    calls()
    for implementation, accuracy in NAMED.items():
        got = zoo.run(name, implementation)
        assert sum(calls().values()) == zoo.CASES[name].calls
        lost = float((got - want).norm() / matters)
        print(f"{name} {accuracy}: {lost:.2e} lost, relative L2 {error(got, want):.2e}")
        assert lost <= BOUND[accuracy]


def test_a_model_that_calls_sdpa_itself(calls: Any) -> None:
    want = zoo.run("bert", "sdpa")
    with clary.enable("sdpa", accuracy="exact"):
        got = zoo.run("bert", "sdpa")
    assert sum(calls().values()) == zoo.NEWER["bert"].calls
    assert error(got, want) <= BOUND["exact"]


# ---- generate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral", "gemma3"])
@pytest.mark.parametrize("cache", [None, "static"])
def test_exact_generates_the_same_tokens(name: str, cache: str | None, calls: Any) -> None:
    model, prompt = zoo.build(name), {"input_ids": zoo.ids(tokens=130), "attention_mask": zoo.padded(True, 130)}

    def tokens(implementation: str) -> Any:
        model.set_attn_implementation(implementation)
        words = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
        return model.generate(**prompt, **words, cache_implementation=cache)

    want = tokens("sdpa")
    assert sum(calls().values()) == 0
    assert torch.equal(tokens("clary_exact"), want)
    assert sum(calls().values()) == 8 * zoo.CASES[name].calls
    assert want[:, 130:].unique().numel() > 4  # not one token over and over, which any attention would give


def test_whisper_generates_the_same_tokens() -> None:
    model = zoo.build("whisper")
    words = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    out = []
    for implementation in ("sdpa", "clary_exact"):
        model.set_attn_implementation(implementation)
        out.append(model.generate(zoo.noise(2, 20, 600), **words))
    assert torch.equal(*out)


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3"])
def test_chunks_with_a_cache(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lq < Lk: the mask of torch's upper-left causality would be wrong here, and clary needs none."""
    model, tokens = zoo.build(name), zoo.ids(tokens=150)
    model.set_attn_implementation("clary_exact")
    with torch.no_grad():
        want = model(tokens).logits
        if name == "llama":
            monkeypatch.setattr(hf.masking_utils, "sdpa_mask", None)
        cache = hf.DynamicCache(config=model.config)
        parts = [model(part, past_key_values=cache).logits for part in tokens.split([90, 30, 1, 29], dim=1)]
    assert error(torch.cat(parts, 1), want) <= BOUND["exact"]


# ---- arguments --------------------------------------------------------------------------------------------------------


def test_a_mask_of_ones_own() -> None:
    model, tokens = zoo.build("llama"), zoo.ids()
    mask = zoo.noise(2, 1, zoo.TOKENS, zoo.TOKENS).masked_fill(zoo.noise(zoo.TOKENS, zoo.TOKENS, seed=1) > 1, -1e30)
    out = []
    for implementation in ("sdpa", "clary_exact"):
        model.set_attn_implementation(implementation)
        with torch.no_grad():
            out.append(model(tokens, attention_mask=mask).logits)
    assert error(out[1], out[0]) <= BOUND["exact"]


def attend(**words: Any) -> torch.Tensor:
    from clary.integrations.transformers import forward

    q, k, v = zoo.noise(1, 4, 60, 32), zoo.noise(1, 2, 60, 32, seed=1), zoo.noise(1, 2, 60, 32, seed=2)
    module = SimpleNamespace(is_causal=True, num_key_value_groups=2)
    out, weights = forward(module, q, k, v, words.pop("mask", None), accuracy="exact", **words)
    assert weights is None and out.shape == (1, 60, 4, 32) and out.is_contiguous()
    return out


def test_packed_sequences() -> None:
    cu = torch.tensor([0, 25, 60], dtype=torch.int32)
    block = (torch.arange(60)[:, None] < 25) == (torch.arange(60) < 25)
    words = {"cu_seq_lens_q": cu, "cu_seq_lens_k": cu, "max_length_q": 35, "max_length_k": 35}
    assert error(attend(**words), attend(mask=(block & torch.ones(60, 60).tril().bool())[None, None])) <= 1e-6


def test_position_bias() -> None:
    bias, causal = zoo.noise(1, 4, 60, 60), torch.ones(60, 60).tril().bool()[None, None]
    want = attend(mask=bias.masked_fill(~causal, float("-inf")))
    assert error(attend(position_bias=bias), want) <= 1e-6
    assert error(attend(position_bias=bias, mask=causal), want) <= 1e-6
    assert error(attend(position_bias=bias, mask=torch.zeros(1, 1, 60, 60).masked_fill(~causal, -1e30)), want) <= 1e-6


def test_what_is_refused() -> None:
    settings = zoo.DECODER | {"head_dim": 32}
    capped = hf.Gemma2ForCausalLM(hf.Gemma2Config(**settings)).eval()
    capped.set_attn_implementation("clary")
    with torch.no_grad(), pytest.raises(NotImplementedError, match=r"capped scores \(softcap\).*eager"):
        capped(zoo.ids())
    for name in ("output_attentions", "head_mask", "indices", "block_indices", "sinks", "cache"):
        with pytest.raises(NotImplementedError, match=name):
            attend(**{name: True})
        attend(**{name: None})
    with pytest.raises(NotImplementedError, match="dropout"):
        attend(dropout=0.1)


def test_training() -> None:
    model, tokens = zoo.build("llama"), zoo.ids(tokens=40)

    def gradient(implementation: str) -> torch.Tensor:
        model.set_attn_implementation(implementation)
        model.zero_grad()
        model(tokens, labels=tokens).loss.backward()
        return model.model.layers[0].self_attn.q_proj.weight.grad.clone()

    with pytest.raises(RuntimeError, match="requires grad"):
        gradient("clary_exact")
    want = gradient("sdpa")
    with clary.enable(grad="recompute"):
        assert error(gradient("clary_exact"), want) <= 1e-4
    model.zero_grad()


def test_compiles_whole(calls: Any) -> None:
    model, tokens = zoo.build("llama"), zoo.ids()
    model.set_attn_implementation("clary")
    with torch.no_grad():
        want = model(tokens).logits
        calls()
        got = torch.compile(model, fullgraph=True, backend="aot_eager")(tokens).logits
    assert sum(calls().values()) == 3
    assert error(got, want) <= BOUND["standard"]


# ---- the switch -------------------------------------------------------------------------------------------------------


def test_accuracy_of_the_process() -> None:
    high = zoo.run("llama", "clary_high")
    with clary.enable(accuracy="high"):
        assert torch.equal(zoo.run("llama", "clary"), high)
        assert not torch.equal(zoo.run("llama", "clary_exact"), high)


def test_disable() -> None:
    clary.disable("transformers")
    with pytest.raises(ValueError, match="attn_implementation"):
        zoo.build("llama").set_attn_implementation("clary")


def test_enable_imports_nothing(python: Any) -> None:
    code = """
import sys, clary
from clary import _switch
_switch.enable_from_environment()
assert not {"torch", "transformers", "diffusers"} & set(sys.modules)
from transformers import AttentionInterface
assert "clary" in AttentionInterface()
clary.disable()
assert "clary" not in AttentionInterface()
print("so it is")
"""
    assert python(code, CLARY_ENABLE="transformers,diffusers") == "so it is\n"


def test_a_version_without_the_interface_is_a_warning(python: Any, tmp_path: Path) -> None:
    for name in ("__init__", "modeling_utils", "masking_utils"):
        (tmp_path / "transformers").mkdir(exist_ok=True)
        (tmp_path / "transformers" / f"{name}.py").touch()
    code = """
import sys, warnings, clary
clary.enable("transformers")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import transformers.modeling_utils
print(*(str(w.message) for w in caught if w.category is RuntimeWarning))
"""
    path = [str(tmp_path), str(Path(clary.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    assert "this version of it has no such list of attentions" in python(code, PYTHONPATH=os.pathsep.join(path))


def test_example(capsys: pytest.CaptureFixture[str]) -> None:
    import transformers_generate

    transformers_generate.main([])
    assert "'calls': 80" in capsys.readouterr().out
