"""A GGUF file to a directory in Hugging Face form, which vLLM reads: `python -m app.worker.hugging_face DIRECTORY`.

For models of the Llama architecture with the tokenizer of SmolLM2, the small model that the worker serves. Weights are
written as they are in the file, without rounding: float32.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Final

import numpy as np

from app.worker.gguf import Floats, GgufFile, NotReadable
from app.worker.weights import NoWeights, find_weights

_CONFIG: Final = "config.json"
_WEIGHTS: Final = "model.safetensors"
_TOKENIZER: Final = "tokenizer.json"
_TOKENIZER_CONFIG: Final = "tokenizer_config.json"
_GENERATION: Final = "generation_config.json"
_TEMPLATE: Final = "chat_template.jinja"
_FILES: Final = {_CONFIG, _WEIGHTS, _TOKENIZER, _TOKENIZER_CONFIG, _GENERATION, _TEMPLATE}

_ARCHITECTURE: Final = "llama"
#: How texts are cut before merges are applied: each digit by itself, then as GPT-2 does.
_PRE_TOKENIZERS: Final = {
    "smollm": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ]
}
#: ggml's kind of a token that stands for itself and is never made of text.
_CONTROL: Final = 3
_WHOLE: Final = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_OF_LAYER: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert(gguf: Path, directory: Path) -> None:
    """Write the model there. An earlier one that was written there is replaced at the end, and stays if anything fails.

    Raises NotReadable, OSError.
    """
    if directory.exists() and not {path.name for path in directory.iterdir()} <= _FILES:
        raise NotReadable(f"{directory} holds other things than a converted model: name a new or an empty directory")
    unfinished = directory.with_name(f"{directory.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        with GgufFile(gguf) as file:
            _write_model(file, unfinished)
        shutil.rmtree(directory, ignore_errors=True)
        unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write_model(file: GgufFile, directory: Path) -> None:
    told = Told(file.metadata)
    config = model_config(told, tied="output.weight" not in set(file.tensors))
    _write_safetensors(file, config, directory / _WEIGHTS)
    _write_json(directory / _TOKENIZER, tokenizer(told))
    _write_json(directory / _TOKENIZER_CONFIG, tokenizer_config(told))
    _write_json(directory / _GENERATION, _ends(told))
    (directory / _TEMPLATE).write_text(told.text("tokenizer.chat_template"))
    _write_json(directory / _CONFIG, config)


def model_config(told: Told, *, tied: bool = True) -> dict[str, object]:
    """The `config.json`. `tied`: one matrix is the first and the last. Raises NotReadable."""
    architecture = told.text("general.architecture")
    if architecture != _ARCHITECTURE:
        raise NotReadable(f"the model is of the architecture {architecture}, and only {_ARCHITECTURE} can be converted")
    heads = told.whole("llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": told.whole("llama.vocab_size"),
        "hidden_size": told.whole("llama.embedding_length"),
        "intermediate_size": told.whole("llama.feed_forward_length"),
        "num_hidden_layers": told.whole("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": told.whole("llama.attention.head_count_kv", otherwise=heads),
        "max_position_embeddings": told.whole("llama.context_length"),
        "rms_norm_eps": round(told.number("llama.attention.layer_norm_rms_epsilon"), 10),
        "rope_theta": told.number("llama.rope.freq_base", otherwise=10_000.0),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": tied,
        **_ends(told),
    }


def tokenizer(told: Told) -> dict[str, object]:
    """The `tokenizer.json`. Raises NotReadable."""
    model, cut = told.text("tokenizer.ggml.model"), told.text("tokenizer.ggml.pre")
    if model != "gpt2" or cut not in _PRE_TOKENIZERS:
        known = " and ".join(_PRE_TOKENIZERS)
        raise NotReadable(f"the tokenizer is {model} ({cut}), and only gpt2 ({known}) can be converted")
    tokens, kinds = told.texts("tokenizer.ggml.tokens"), told.listed("tokenizer.ggml.token_type")
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": token, "special": True, **_AS_IT_STANDS}
            for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
            if kind == _CONTROL
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": _PRE_TOKENIZERS[cut]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [merge.split(" ", 1) for merge in told.texts("tokenizer.ggml.merges")],
        },
    }


_AS_IT_STANDS: Final = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}


def tokenizer_config(told: Told) -> dict[str, object]:
    """The `tokenizer_config.json`. Raises NotReadable."""
    tokens = told.texts("tokenizer.ggml.tokens")
    ends = _ends(told)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[ends["bos_token_id"]],
        "eos_token": tokens[ends["eos_token_id"]],
        "pad_token": tokens[ends["pad_token_id"]],
        "model_max_length": told.whole("llama.context_length"),
        "clean_up_tokenization_spaces": False,
    }


def _ends(told: Told) -> dict[str, int]:
    eos = told.whole("tokenizer.ggml.eos_token_id")
    return {
        "bos_token_id": told.whole("tokenizer.ggml.bos_token_id", otherwise=eos),
        "eos_token_id": eos,
        "pad_token_id": told.whole("tokenizer.ggml.padding_token_id", otherwise=eos),
    }


def _write_safetensors(file: GgufFile, config: Mapping[str, object], path: Path) -> None:
    """A head in JSON with its length before it, and the tensors one after another. Two passes, so that one tensor at
    a time is in memory."""
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    named = [(name, *_renamed(name)) for name in file.tensors]
    described: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, _, new in named:
        shape = file.shape(name)
        begin, end = end, end + 4 * prod(shape)
        described[new] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    head = json.dumps(described, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as out:
        out.write(len(head).to_bytes(8, "little"))
        out.write(head)
        for name, part, _ in named:
            floats = file.tensor(name)
            turned = heads.get(part)
            out.write((unturned(floats, heads=turned) if isinstance(turned, int) else floats).data)


def _renamed(name: str) -> tuple[str, str]:
    """The part that it is of a layer, or nothing, and its new name. Raises NotReadable."""
    if name in _WHOLE:
        return "", _WHOLE[name]
    match name.split("."):
        case ["blk", number, part, "weight"] if part in _OF_LAYER:
            return part, f"model.layers.{number}.{_OF_LAYER[part]}.weight"
    raise NotReadable(f"the model has a tensor {name}, which is not one of this architecture")


def unturned(floats: Floats, *, heads: int) -> Floats:
    """llama.cpp keeps the two halves that rotary embedding turns together interleaved; here the first half of each
    head's rows comes before the second one."""
    rows, columns = floats.shape
    return np.ascontiguousarray(
        floats.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)
    )


class Told:
    """A file's metadata, of which each entry must be what it has to be. Every method raises NotReadable."""

    def __init__(self, metadata: Mapping[str, object]) -> None:
        self._metadata = metadata

    def text(self, key: str) -> str:
        found = self._metadata.get(key)
        if not isinstance(found, str):
            raise NotReadable(f"the file does not say {key}")
        return found

    def whole(self, key: str, *, otherwise: int | None = None) -> int:
        found = self._metadata.get(key, otherwise)
        if not isinstance(found, int) or isinstance(found, bool):
            raise NotReadable(f"the file does not say {key}")
        return found

    def number(self, key: str, *, otherwise: float | None = None) -> float:
        found = self._metadata.get(key, otherwise)
        if not isinstance(found, int | float) or isinstance(found, bool):
            raise NotReadable(f"the file does not say {key}")
        return float(found)

    def listed(self, key: str) -> list[object]:
        found = self._metadata.get(key)
        if not isinstance(found, list):
            raise NotReadable(f"the file does not say {key}")
        return found

    def texts(self, key: str) -> list[str]:
        return [*_texts(self.listed(key), key)]


def _texts(found: list[object], key: str) -> Iterator[str]:
    for text in found:
        if not isinstance(text, str):
            raise NotReadable(f"the file does not say {key}")
        yield text


def _write_json(path: Path, said: object) -> None:
    path.write_text(json.dumps(said, ensure_ascii=False))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m app.worker.hugging_face", description=__doc__)
    parser.add_argument("directory", type=Path, help="where to write; an earlier model there is replaced")
    parser.add_argument("--gguf", type=Path, help="the model; without it the small one that is installed")
    named = parser.parse_args(arguments)
    try:
        convert(find_weights(named.gguf), named.directory)
    except (NoWeights, NotReadable, OSError) as fault:
        sys.stderr.write(f"The model cannot be converted: {fault}.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
