"""app.worker.hugging_face: the small model, converted, still says what it says; and what cannot be converted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.worker.gguf import Floats, GgufFile, NotReadable
from app.worker.hugging_face import Told, convert, main, model_config, tokenizer, unturned
from app.worker.weights import find_weights

FILES = {
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model in Hugging Face form."""
    directory = tmp_path_factory.mktemp("converted") / "model"
    convert(find_weights(), directory)
    return directory


def weights(model: Path) -> dict[str, Floats]:
    """The tensors by name, read by other eyes than the ones that wrote them."""
    raw = np.memmap(model / "model.safetensors", np.uint8, mode="r")
    length = int(raw[:8].view("<u8")[0])
    head = json.loads(raw[8 : 8 + length].tobytes())
    assert head.pop("__metadata__") == {"format": "pt"}
    body = raw[8 + length :]
    ends = sorted(said["data_offsets"] for said in head.values())
    assert [end for _, end in ends[:-1]] == [begin for begin, _ in ends[1:]], "tensors leave gaps or overlap"
    assert (ends[0][0], ends[-1][1]) == (0, len(body))
    return {
        name: body[slice(*said["data_offsets"])].view("<f4").reshape(said["shape"])
        for name, said in head.items()
        if said["dtype"] == "F32"
    }


def loaded(model: Path, name: str) -> Any:
    return json.loads((model / name).read_text())


def test_it_writes_what_a_model_directory_has_and_nothing_else(model: Path) -> None:
    assert {path.name for path in model.iterdir()} == FILES
    config = loaded(model, "config.json")
    assert (config["architectures"], config["num_hidden_layers"], config["vocab_size"]) == (
        ["LlamaForCausalLM"],
        30,
        49152,
    )
    assert (config["rope_theta"], config["rms_norm_eps"], config["tie_word_embeddings"]) == (100_000.0, 1e-05, True)
    assert loaded(model, "tokenizer_config.json")["eos_token"] == "<|im_end|>"
    tokens = loaded(model, "tokenizer.json")
    assert len(tokens["model"]["vocab"]) == 49152
    assert [each["content"] for each in tokens["added_tokens"]][:3] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    assert "<|im_start|>" in (model / "chat_template.jinja").read_text()


def test_the_converted_model_goes_on_as_the_model_does(model: Path) -> None:
    vocabulary = loaded(model, "tokenizer.json")["model"]["vocab"]
    words = ["The", "Ġcapital", "Ġof", "ĠFrance", "Ġis"]
    logits = next_token(weights(model), loaded(model, "config.json"), [vocabulary[word] for word in words])
    assert int(logits.argmax()) == vocabulary["ĠParis"]
    # A wrong turn of the heads, or a wrong base of the rotation, still finds Paris, and is never this sure of it.
    chances = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
    assert chances[vocabulary["ĠParis"]] == pytest.approx(-0.258, abs=0.01)


def next_token(tensors: Mapping[str, Floats], config: Mapping[str, Any], tokens: list[int]) -> Floats:
    """The logits behind these tokens: a Llama in few lines, whose halves are rotated as Hugging Face does."""
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    width = config["hidden_size"] // heads
    angles = np.outer(np.arange(len(tokens)), config["rope_theta"] ** (-np.arange(0, width, 2) / width))
    turns = np.tile(angles, 2)[:, None].astype(np.float32)
    cos, sin = np.cos(turns), np.sin(turns)

    def normed(seen: Floats, name: str) -> Floats:
        size = np.sqrt((seen**2).mean(-1, keepdims=True) + config["rms_norm_eps"])
        return seen / size * tensors[f"model.{name}.weight"]

    def split(seen: Floats, name: str, count: int) -> Floats:
        return (seen @ tensors[f"model.{name}.weight"].T).reshape(len(tokens), count, width)

    def rotated(seen: Floats) -> Floats:
        low, high = np.split(seen, 2, -1)
        return seen * cos + np.concatenate((-high, low), -1) * sin

    hidden = tensors["model.embed_tokens.weight"][tokens]
    for layer in range(config["num_hidden_layers"]):
        at = f"layers.{layer}"
        seen = normed(hidden, f"{at}.input_layernorm")
        queries = rotated(split(seen, f"{at}.self_attn.q_proj", heads))
        keys = rotated(split(seen, f"{at}.self_attn.k_proj", groups)).repeat(heads // groups, 1)
        values = split(seen, f"{at}.self_attn.v_proj", groups).repeat(heads // groups, 1)
        scores = np.einsum("qhw,khw->hqk", queries, keys) / width**0.5
        scores += np.triu(np.full(scores.shape[1:], -np.inf, np.float32), 1)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khw->qhw", shares, values).reshape(len(tokens), -1)
        hidden = hidden + mixed @ tensors[f"model.{at}.self_attn.o_proj.weight"].T
        seen = normed(hidden, f"{at}.post_attention_layernorm")
        gate = seen @ tensors[f"model.{at}.mlp.gate_proj.weight"].T
        up = seen @ tensors[f"model.{at}.mlp.up_proj.weight"].T
        hidden = hidden + (gate / (1 + np.exp(-gate)) * up) @ tensors[f"model.{at}.mlp.down_proj.weight"].T
    last: Floats = normed(hidden[-1], "norm") @ tensors["model.embed_tokens.weight"].T
    return last


def test_heads_are_unturned_each_by_itself() -> None:
    # llama.cpp's order of a head of six rows: the first of each half, the second, the third.
    turned = np.array([[0], [3], [1], [4], [2], [5], [10], [13], [11], [14], [12], [15]], np.float32)
    assert unturned(turned, heads=2).ravel().tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15]


@pytest.fixture(scope="module")
def metadata() -> Mapping[str, object]:
    """The small model's."""
    with GgufFile(find_weights()) as file:
        return file.metadata


def changed(metadata: Mapping[str, object], key: str, value: object) -> Told:
    """With this entry instead; None: without it."""
    return Told({name: said for name, said in {**metadata, key: value}.items() if said is not None})


@pytest.mark.parametrize(
    ("made", "key", "value", "sentence"),
    [
        (model_config, "general.architecture", "mamba", "of the architecture mamba, and only llama"),
        (model_config, "llama.block_count", None, "does not say llama.block_count"),
        (model_config, "llama.block_count", True, "does not say llama.block_count"),
        (model_config, "llama.rope.freq_base", "100", "does not say llama.rope.freq_base"),
        (tokenizer, "tokenizer.ggml.pre", "llama-bpe", r"is gpt2 \(llama-bpe\), and only gpt2 \(smollm\)"),
        (tokenizer, "tokenizer.ggml.merges", [1], "does not say tokenizer.ggml.merges"),
        (tokenizer, "tokenizer.ggml.tokens", "none", "does not say tokenizer.ggml.tokens"),
    ],
)
def test_what_cannot_be_converted_is_one_sentence(
    metadata: Mapping[str, object], made: Callable[[Told], object], key: str, value: object, sentence: str
) -> None:
    with pytest.raises(NotReadable, match=sentence):
        made(changed(metadata, key, value))


def test_a_model_with_a_matrix_of_its_own_at_the_end_is_not_tied(metadata: Mapping[str, object]) -> None:
    assert model_config(Told(metadata), tied=False)["tie_word_embeddings"] is False


def test_a_failure_leaves_what_was_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(find_weights().read_bytes()[:3_000_000])
    kept = tmp_path / "model"
    kept.mkdir()
    (kept / "config.json").write_text("{}")
    assert main([str(kept), "--gguf", str(broken)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("The model cannot be converted: broken.gguf is cut off or damaged at ")
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir() if path != broken] == ["model"]
    assert (kept / "config.json").read_text() == "{}"


def test_a_directory_of_other_things_is_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "letters").write_text("dear")
    assert main([str(tmp_path)]) == 1
    assert "holds other things than a converted model: name a new or an empty directory" in capsys.readouterr().err
    assert (tmp_path / "letters").read_text() == "dear"


def test_a_model_that_is_not_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "new"), "--gguf", str(tmp_path / "none.gguf")]) == 1
    assert "does not exist: name a GGUF file" in capsys.readouterr().err
