"""Small random transformers models, made here. Wide initial weights: attention is peaked, as trained attention is."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
import transformers as hf

TOKENS = 320
V5 = int(hf.__version__.partition(".")[0]) >= 5


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def error(got: torch.Tensor, want: torch.Tensor) -> float:
    """Relative L2."""
    return float((got - want).norm() / want.norm())


def ids(batch: int = 2, tokens: int = TOKENS) -> torch.Tensor:
    return torch.randint(1, 256, (batch, tokens), generator=torch.Generator().manual_seed(0))


def padded(left: bool, tokens: int = TOKENS) -> torch.Tensor:
    """The first of two sequences is a third shorter."""
    mask = torch.ones(2, tokens, dtype=torch.long)
    mask[0, : tokens // 3] = 0
    return mask if left else mask.flip(1)


def left_padded() -> dict[str, Any]:
    return {"input_ids": ids(), "attention_mask": padded(left=True)}


def right_padded() -> dict[str, Any]:
    return {"input_ids": ids(), "attention_mask": padded(left=False)}


def unpadded() -> dict[str, Any]:
    return {"input_ids": ids()}


def picture() -> dict[str, Any]:
    return {"pixel_values": noise(2, 3, 144, 144)}


def sound() -> dict[str, Any]:
    return {"input_features": noise(2, 20, 600), "decoder_input_ids": ids()}


def source_and_target() -> dict[str, Any]:
    return right_padded() | {"decoder_input_ids": ids()}


ENCODER = {
    "vocab_size": 256, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 1024, "pad_token_id": 0, "initializer_range": 0.1, "tie_word_embeddings": False,
}  # fmt: skip
DECODER = ENCODER | {"num_key_value_heads": 2}
VISION = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 2,
    "image_size": 144, "patch_size": 8, "initializer_range": 0.1,
}  # fmt: skip
LOCAL = {"sliding_window": 100, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
WHISPER = {
    "vocab_size": 256, "d_model": 128, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 256, "decoder_ffn_dim": 256, "num_mel_bins": 20, "init_std": 0.1,
    "max_source_positions": 300, "max_target_positions": 448, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1, "suppress_tokens": [], "begin_suppress_tokens": [],
}  # fmt: skip
T5 = {
    "vocab_size": 256, "d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4, "pad_token_id": 0,
    "decoder_start_token_id": 0,
}  # fmt: skip
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 2}  # all of them: which one is chosen would flip


class Case(NamedTuple):
    config: str
    model: str
    settings: dict[str, Any]
    inputs: Any
    calls: int  # of attention in one forward pass
    reference: str = "sdpa"


CASES = {
    "llama": Case("LlamaConfig", "LlamaForCausalLM", DECODER, left_padded, 3),
    "qwen3": Case("Qwen3Config", "Qwen3ForCausalLM", DECODER | {"head_dim": 64}, left_padded, 3),
    "mistral": Case("MistralConfig", "MistralForCausalLM", DECODER | {"sliding_window": 100}, unpadded, 3),
    "gemma3": Case("Gemma3TextConfig", "Gemma3ForCausalLM", DECODER | LOCAL | {"head_dim": 256}, left_padded, 3),
    "gpt_oss": Case(
        "GptOssConfig", "GptOssForCausalLM", DECODER | LOCAL | EXPERTS | {"head_dim": 32}, left_padded, 3, "eager"
    ),
    "vit": Case("ViTConfig", "ViTForImageClassification", VISION | {"num_labels": 50}, picture, 3),
    "clip": Case("CLIPVisionConfig", "CLIPVisionModel", VISION, picture, 3),
    "whisper": Case("WhisperConfig", "WhisperForConditionalGeneration", WHISPER, sound, 6),
}
# Not on the attention interface of transformers 4: its BERT calls torch's SDPA, its T5 multiplies matrices.
NEWER = {
    "bert": Case("BertConfig", "BertForMaskedLM", ENCODER, right_padded, 3),
    "t5": Case("T5Config", "T5ForConditionalGeneration", T5, source_and_target, 6),
}
if V5:
    CASES |= NEWER


@lru_cache(maxsize=None)
def build(name: str) -> Any:
    case = (CASES | NEWER)[name]
    torch.manual_seed(0)
    model = getattr(hf, case.model)(getattr(hf, case.config)(**case.settings)).eval()
    for weight, value in model.named_parameters():
        if "sinks" in weight:
            torch.nn.init.normal_(value)
    return model


def run(name: str, implementation: str) -> torch.Tensor:
    """Logits, or the last hidden state, of what is not padding."""
    case, model = (CASES | NEWER)[name], build(name)
    model.set_attn_implementation(implementation)
    inputs = case.inputs()
    with torch.no_grad():
        answer = model(**inputs)
    out = answer.logits if hasattr(answer, "logits") else answer.last_hidden_state
    keep = inputs.get("attention_mask")
    return out if keep is None or name == "t5" else out[keep.bool()]
