"""A language model of transformers on clary: python examples/transformers_generate.py [MODEL] [PROMPT]

Without MODEL, a small random Llama, so that nothing is downloaded.
"""

from __future__ import annotations

import sys

import clary

clary.enable("transformers")  # before or after transformers is imported

import torch  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig  # noqa: E402


def main(args: list[str]) -> None:
    if args:
        tokenizer = AutoTokenizer.from_pretrained(args[0])
        model = AutoModelForCausalLM.from_pretrained(args[0], attn_implementation="clary")
        prompt = tokenizer(args[1] if len(args) > 1 else "The sage said:", return_tensors="pt").input_ids
    else:
        sizes = {"vocab_size": 256, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4}
        config = LlamaConfig(**sizes, num_attention_heads=8, num_key_value_heads=2)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="clary")
        prompt = torch.randint(256, (1, 500))

    tokens = model.eval().generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=20, pad_token_id=0)
    new = tokens[0, prompt.shape[1] :]
    print(tokenizer.decode(new) if args else new.tolist())
    print(clary.stats())  # where every call of attention went


if __name__ == "__main__":
    main(sys.argv[1:])
