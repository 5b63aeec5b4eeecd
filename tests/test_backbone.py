"""A backbone is frozen, known by its stored weights, and refuses in one line whatever it cannot run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import backbone

from adapterxl.backbone import Backbone, fingerprint, read_config, share_structure
from adapterxl.errors import BackboneError, UsageError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tiny_xlmr: Path, tmp_path: Path) -> Path:
    """A copy of the tiny XLM-R that a test may spoil."""
    return Path(shutil.copytree(tiny_xlmr, tmp_path / "base"))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(folder / WEIGHTS)), folder / WEIGHTS, metadata={"format": "pt"})


def configure(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def shard(folder: Path) -> None:
    """Split the weights over two files and an index, as large checkpoints come."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    files = {name: f"model-0000{i % 2 + 1}-of-00002.safetensors" for i, name in enumerate(tensors)}
    for file in set(files.values()):
        part = {name: tensor for name, tensor in tensors.items() if files[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}), encoding="utf-8")


# What it is


@pytest.mark.parametrize(("which", "offset", "types"), [("tiny_xlmr", 2, False), ("tiny_bert", 0, True)])
def test_a_backbone_knows_its_dimensions(which: str, offset: int, types: bool, request: pytest.FixtureRequest):
    on = backbone(request.getfixturevalue(which), "fp32")
    assert (on.hidden, on.intermediate, on.layers, on.heads) == (32, 64, 3, 4)
    assert (on.position_offset, on.max_length, on.uses_token_types) == (offset, 512, types)
    assert on.describe() == {
        "name": which.replace("_", "-"),
        "id": None,
        "revision": None,
        "fingerprint": on.fingerprint,
        "model_type": on.model_type,
        "hidden_size": 32,
        "layers": 3,
        "tokenizer": on.tokens,
    }


def test_every_weight_is_frozen_and_the_model_is_in_evaluation_mode(tiny_bert: Path):
    model = backbone(tiny_bert, "fp32").model
    assert not any(weight.requires_grad for weight in model.parameters())
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_weights_have_the_precision_asked_for(tiny_xlmr: Path, name: str, dtype: torch.dtype):
    on = backbone(tiny_xlmr, name)
    assert {weight.dtype for weight in on.model.parameters()} == {dtype}
    assert on.dtype == dtype


def test_the_weights_are_those_of_the_file(folder: Path):
    stored = load_file(folder / WEIGHTS)
    loaded = Backbone(folder).model.state_dict()
    assert loaded
    for name, tensor in loaded.items():
        assert torch.equal(tensor, stored[f"roberta.{name}"]), name


def test_the_shared_structure_has_other_modules_but_the_same_tensors(tiny_xlmr: Path):
    model = backbone(tiny_xlmr, "fp32").model
    copied = share_structure(model)
    assert copied.encoder.layer[0] is not model.encoder.layer[0]
    for one, other in zip(model.parameters(), copied.parameters(), strict=True):
        assert one is other


# Its fingerprint


def test_the_fingerprint_is_independent_of_sharding(folder: Path):
    before = fingerprint(folder)
    shard(folder)
    assert fingerprint(folder) == before
    assert Backbone(folder).fingerprint == before


def test_the_fingerprint_is_independent_of_the_prefix(folder: Path):
    before = fingerprint(folder)
    rewrite(folder, lambda tensors: {name.removeprefix("roberta."): tensor for name, tensor in tensors.items()})
    assert fingerprint(folder) == before


def test_the_fingerprint_is_independent_of_heads_and_pooler(folder: Path):
    before = fingerprint(folder)
    assert any(name.startswith("lm_head") for name in load_file(folder / WEIGHTS))
    rewrite(folder, lambda tensors: {name: t for name, t in tensors.items() if not name.startswith("lm_head")})
    assert fingerprint(folder) == before
    rewrite(folder, lambda tensors: tensors | {"roberta.pooler.dense.bias": torch.ones(32)})
    assert fingerprint(folder) == before


def test_the_fingerprint_is_independent_of_the_stored_position_ids(folder: Path):
    before = fingerprint(folder)
    rewrite(folder, lambda tensors: tensors | {"roberta.embeddings.position_ids": torch.arange(514)[None]})
    assert fingerprint(folder) == before
    assert Backbone(folder).fingerprint == before


def test_the_fingerprint_is_independent_of_the_precision_at_run_time(tiny_xlmr: Path):
    assert backbone(tiny_xlmr, "bf16").fingerprint == backbone(tiny_xlmr, "fp64").fingerprint


@pytest.mark.parametrize(
    "name", ["roberta.embeddings.word_embeddings.weight", "roberta.encoder.layer.2.output.dense.bias"]
)
def test_one_changed_byte_gives_another_fingerprint(folder: Path, name: str):
    before = fingerprint(folder)
    data = bytearray((folder / WEIGHTS).read_bytes())
    size = int.from_bytes(data[:8], "little")
    data[8 + size + json.loads(data[8 : 8 + size])[name]["data_offsets"][1] - 1] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    assert fingerprint(folder) != before


def test_another_name_or_shape_gives_another_fingerprint(folder: Path):
    seen = {fingerprint(folder)}
    name = "roberta.encoder.layer.0.output.dense.weight"
    rewrite(folder, lambda tensors: tensors | {name: tensors[name].reshape(64, 32)})
    seen.add(fingerprint(folder))
    rewrite(folder, lambda tensors: {n.replace("layer.1", "layer.7"): tensor for n, tensor in tensors.items()})
    seen.add(fingerprint(folder))
    assert len(seen) == 3


# Its tokenizer


def test_the_digest_of_a_tokenizer_is_of_its_token_ids_and_not_of_its_spelling(folder: Path):
    before = Backbone(folder).tokens
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content, indent=3, sort_keys=True), encoding="utf-8")
    assert Backbone(folder).tokens == before
    content["normalizer"] = {"type": "Lowercase"}  # the same vocabulary, other ids of a text
    path.write_text(json.dumps(content), encoding="utf-8")
    lower = Backbone(folder)
    assert lower.tokens != before and lower.fingerprint == fingerprint(folder)


def test_two_words_that_change_places_are_another_tokenizer(folder: Path):
    before = Backbone(folder).tokens
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    pieces = content["model"]["vocab"]
    pieces[40][0], pieces[41][0] = pieces[41][0], pieces[40][0]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert Backbone(folder).tokens != before


def test_the_digest_of_a_tokenizer_is_the_same_in_every_process():
    assert Backbone(load=False).tokens == "4dae0c0ea7afce5d359eeb7d17b379b7577ff34d371a64d56635fc6acb664a30"


# Its config: numbers only


def test_a_config_cannot_choose_code(folder: Path):
    configure(
        folder,
        _attn_implementation_internal="eager",
        attn_implementation="flash_attention_2",
        auto_map={"AutoModel": "evil.Model"},
        custom_pipelines={"x": {"impl": "evil.Pipeline"}},
        quantization_config={"load_in_4bit": True},
        torch_dtype="float16",
    )
    values = read_config(folder)
    assert values["hidden_size"] == 32
    assert not {"auto_map", "quantization_config", "custom_pipelines", "torch_dtype"} & values.keys()
    assert not any("attn" in key for key in values)
    config = Backbone(folder).config
    assert config._attn_implementation == "sdpa"
    assert not hasattr(config, "auto_map") and not hasattr(config, "quantization_config")


@pytest.mark.parametrize("model_type", ["roberta", "xlm", "gpt2", "", None, 5])
def test_another_architecture_is_refused_by_name(folder: Path, model_type: object):
    configure(folder, model_type=model_type)
    with pytest.raises(BackboneError, match=rf"model_type: found {model_type!r}, expected .*xlm-roberta, bert"):
        Backbone(folder)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("hidden_size", "32", "a whole number from 1"),
        ("num_hidden_layers", 0, "a whole number from 1"),
        ("intermediate_size", -1, "a whole number from 1"),
        ("max_position_embeddings", None, "a whole number from 1"),
        ("vocab_size", True, "a whole number from 1"),
        ("pad_token_id", None, "a whole number from 0"),
        ("layer_norm_eps", "x", "a number from 0"),
        ("hidden_dropout_prob", 3, "a number from 0 to below 1"),
        ("attention_probs_dropout_prob", None, "a number from 0 to below 1"),
        ("position_embedding_type", "relative_key", "'absolute'"),
    ],
)
def test_a_wrong_number_in_the_config_is_named(folder: Path, key: str, value: object, expected: str):
    configure(folder, **{key: value})
    with pytest.raises(BackboneError, match=f"config.json: {key}: found {value!r}, expected {expected}"):
        Backbone(folder)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_hidden_layers": 4}, "16 weights are missing .*encoder.layer.3"),
        ({"num_hidden_layers": 2}, "does not describe these weights: 16 have no place, first: encoder.layer.2"),
        ({"hidden_size": 64}, r"size mismatch .*\[32\].*\[64\]"),
        ({"vocab_size": 7}, r"size mismatch .*\[7, 32\]"),
        ({"num_attention_heads": 5}, "not a multiple"),
        ({"hidden_act": "nope"}, "nope"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(folder: Path, values: dict[str, object], message: str):
    configure(folder, **values)
    with pytest.raises(BackboneError, match=message) as caught:
        Backbone(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe{", b"", b"[1]", b"null"])
def test_a_broken_config_is_refused(folder: Path, text: bytes):
    (folder / "config.json").write_bytes(text)
    with pytest.raises(BackboneError, match="config.json: (not readable as JSON|model_type: found None)") as caught:
        Backbone(folder)
    assert "\n" not in str(caught.value)


# Files that are missing or damaged


@pytest.mark.parametrize("name", ["./nope", "/nope/base", "a/b/c", "a//b", "~/nope-nope"])
def test_a_missing_folder_is_refused(name: str):
    with pytest.raises(BackboneError, match=r"No backbone folder .*Give a folder .*or a hub id"):
        Backbone(name)


@pytest.mark.parametrize("name", ["nobody/nothing", "not a name"])
def test_a_hub_id_that_the_hub_does_not_give_is_refused_in_one_line(name: str):
    with pytest.raises(BackboneError, match=f"'{name}' is no folder here, and the hub did not give it") as caught:
        Backbone(name)
    assert "\n" not in str(caught.value)


def test_a_folder_without_config_or_weights_or_tokenizer_says_which(folder: Path):
    for file, message in (
        ("tokenizer.json", "no tokenizer; expected one of tokenizer.json"),
        (WEIGHTS, "no model.safetensors"),
        ("config.json", "config.json: not found"),
    ):
        (folder / file).unlink()
        with pytest.raises(BackboneError, match=message):
            Backbone(folder)


def test_pickle_weights_are_never_read(folder: Path):
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    with pytest.raises(BackboneError, match=r"no model.safetensors. Pickle weights \(.bin\) are never read"):
        Backbone(folder)


@pytest.mark.parametrize("kept", [0, 4, 20, 5000, -100])
def test_cut_weights_are_refused(folder: Path, kept: int):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:kept])
    with pytest.raises(BackboneError, match="cannot be loaded"):
        Backbone(folder)
    with pytest.raises(BackboneError, match="cut"):
        fingerprint(folder)


def test_a_file_of_other_bytes_is_refused(folder: Path):
    (folder / WEIGHTS).write_bytes(b"\xff" * 4000)
    with pytest.raises(BackboneError, match="cannot be loaded"):
        Backbone(folder)
    with pytest.raises(BackboneError, match="not a safetensors file"):
        fingerprint(folder)


def test_a_missing_tensor_is_named(folder: Path):
    lost = "encoder.layer.1.output.dense.weight"
    rewrite(folder, lambda tensors: {name: tensor for name, tensor in tensors.items() if not name.endswith(lost)})
    with pytest.raises(BackboneError, match=f"1 weights are missing .*first: {lost}"):
        Backbone(folder)


def test_a_tensor_without_a_place_is_named(folder: Path):
    rewrite(folder, lambda tensors: tensors | {"roberta.encoder.layer.9.output.dense.bias": torch.zeros(32)})
    with pytest.raises(BackboneError, match="1 have no place, first: encoder.layer.9.output.dense.bias"):
        Backbone(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not an index"),
        ("[]", "not an index"),
        ("{}", "not an index"),
        ('{"weight_map": [1]}', "not an index"),
        ('{"weight_map": {}}', "none at all"),
        ('{"weight_map": {"a": "other.safetensors"}}', "not there: other.safetensors"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "not there"),
        ('{"weight_map": {"a": 3}}', "not there: 3"),
    ],
)
def test_a_broken_index_of_shards_is_refused(folder: Path, text: str, message: str):
    (folder / WEIGHTS).rename(folder.parent / WEIGHTS)
    (folder / INDEX).write_text(text, encoding="utf-8")
    with pytest.raises(BackboneError, match=message):
        Backbone(folder)


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_broken_tokenizer_is_refused(folder: Path, text: str):
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    with pytest.raises(BackboneError, match="cannot be loaded"):
        Backbone(folder)


# Settings


def test_an_unknown_precision_or_device_is_refused(tiny_xlmr: Path):
    with pytest.raises(UsageError, match=r"No dtype 'fp23'. Did you mean 'fp32'\?"):
        Backbone(tiny_xlmr, dtype="fp23")
    with pytest.raises(UsageError, match="No device 'tpu'. Choose one of: auto, cpu, cuda"):
        Backbone(tiny_xlmr, device="tpu")


def test_cuda_without_a_gpu_is_refused(tiny_xlmr: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="sees no CUDA GPU. Use --device cpu"):
        Backbone(tiny_xlmr, device="cuda")
    assert Backbone(tiny_xlmr, device="auto").device.type == "cpu"


def test_old_layer_norm_names_give_the_same_fingerprint(tiny_bert: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_bert, tmp_path / "old")
    tensors = load_file(tiny_bert / "model.safetensors")
    renamed = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in tensors.items()
    }
    assert renamed.keys() != tensors.keys()
    save_file(renamed, tmp_path / "old/model.safetensors", metadata={"format": "pt"})
    assert fingerprint(tmp_path / "old") == fingerprint(tiny_bert)
