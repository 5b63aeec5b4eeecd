"""Folders that vanilla peft wrote: what is imported answers as peft does, and nothing is skipped or guessed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from foreign import TASK_TYPES, difference, edit_json, edit_tensors, first, peft_model
from safetensors.torch import load_file

from adapterxl.artifacts import import_folder, load
from adapterxl.backbone import Backbone
from adapterxl.engines import to_peft
from adapterxl.errors import ArtifactError, BackboneError, TaskError
from adapterxl.modules import IA3Part, LoRAPart

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
EVERY = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
CASES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "lora": (peft.LoraConfig, {"r": 4, "lora_alpha": 4, "target_modules": ["query", "value"]}),
    "scaled": (peft.LoraConfig, {"r": 4, "lora_alpha": 9, "target_modules": EVERY}),
    "rslora": (
        peft.LoraConfig,
        {"r": 4, "lora_alpha": 3, "use_rslora": True, "target_modules": ["key", "output.dense"]},
    ),
    "dora": (peft.LoraConfig, {"r": 3, "lora_alpha": 5, "use_dora": True, "target_modules": EVERY}),
    "patterns": (
        peft.LoraConfig,
        {
            "r": 4,
            "lora_alpha": 6,
            "target_modules": ["query", "intermediate.dense"],
            "rank_pattern": {"layer.1.attention.self.query": 2, "intermediate.dense": 5},
            "alpha_pattern": {"layer.2.attention.self.query": 1, "query": 3},
        },
    ),
    "layers": (
        peft.LoraConfig,
        {"target_modules": ["value"], "layers_to_transform": [0, 2], "layers_pattern": "layer"},
    ),
    "one layer": (peft.LoraConfig, {"target_modules": ["value"], "layers_to_transform": 1}),
    "regex": (peft.LoraConfig, {"target_modules": r".*\.layer\.[02]\.attention\.self\.(query|key)"}),
    "excluded": (
        peft.LoraConfig,
        {"target_modules": ["query", "key"], "exclude_modules": ["layer.1.attention.self.key"]},
    ),
    "ia3": (peft.IA3Config, {"target_modules": ["key", "value", "intermediate.dense"], "feedforward_modules": []}),
}


def saved(on: Backbone, folder: Path, case: str = "scaled", kind: str = "tag", **more: Any) -> tuple[Path, Any]:
    config, fields = CASES[case]
    model = peft_model(on, config(task_type=TASK_TYPES.get(kind), **{**fields, **more}), kind)
    model.save_pretrained(folder)
    return folder, model


@pytest.mark.parametrize("case", CASES)
def test_what_is_imported_answers_as_peft_does_and_goes_back_as_it_came(
    case: str, on: Backbone, tmp_path: Path
) -> None:
    folder, model = saved(on, tmp_path / "theirs", case)
    module = import_folder(folder, on=on)
    assert difference(on, module, model) <= 1e-5
    module.save(tmp_path / "ours")
    again = load(tmp_path / "ours")
    assert again.digest() == module.digest() and again.training["foreign"]["library"] == "peft"
    assert isinstance(again.parts[0], IA3Part if case == "ia3" else LoRAPart) and again.parts[0].trained_on == ()
    theirs, ours = load_file(folder / WEIGHTS), load_file(tmp_path / "ours" / WEIGHTS)
    assert theirs.keys() == ours.keys()
    for key, tensor in theirs.items():
        if case in ("lora", "ia3"):  # scale 1
            assert torch.equal(tensor, ours[key]), key
        elif not key.endswith("lora_B.weight"):  # the scale is folded into B
            torch.testing.assert_close(ours[key], tensor, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["classify", "tag", "span", "choice", ""])
def test_a_saved_head_comes_along(kind: str, on: Backbone, tmp_path: Path) -> None:
    more = {"modules_to_save": ["classifier", "pooler"]} if kind == "choice" else {}
    folder, model = saved(on, tmp_path / "theirs", "scaled", kind, **more)
    module = import_folder(folder, on=on, labels=("x", "y", "z") if kind in ("classify", "tag") else None)
    assert module.kind == kind and (module.head is None) == (not kind)
    if kind in ("classify", "tag"):
        assert module.head is not None and module.head.labels == ("x", "y", "z")
    assert difference(on, module, model) <= 1e-5
    back = to_peft(module, on=on)
    assert difference(on, module, back) <= 1e-5


def test_a_head_that_uses_the_backbones_own_pooler_gets_it(tiny_bert: Path, tiny_xlmr: Path, tmp_path: Path) -> None:
    bert = Backbone(tiny_bert, device="cpu")
    folder, model = saved(bert, tmp_path / "bert", "lora", "classify")
    assert not any("pooler" in key for key in load_file(folder / WEIGHTS))
    module = import_folder(folder, on=bert)
    assert module.head is not None and difference(bert, module, model) <= 1e-5
    assert torch.equal(module.head.tensors["pooler.dense.weight"], bert.stored("pooler.dense.weight"))
    xlmr = Backbone(tiny_xlmr, device="cpu")  # whose files hold no pooler: the head is not whole
    folder, _ = saved(xlmr, tmp_path / "xlmr", "lora", "choice", modules_to_save=["classifier"])
    with pytest.raises(
        ArtifactError, match="needs pooler.dense.weight, which neither this folder nor the backbone holds"
    ):
        import_folder(folder, on=xlmr)


def test_half_precision_is_read_as_what_it_says(xlmr: Backbone, tmp_path: Path) -> None:
    folder, _ = saved(xlmr, tmp_path / "theirs")
    whole = import_folder(folder, on=xlmr)
    edit_tensors(folder / WEIGHTS, lambda found: found.update({key: value.half() for key, value in found.items()}))
    half = import_folder(folder, on=xlmr)
    for key, tensor in half.parts[0].tensors().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, whole.parts[0].tensors()[key], rtol=2e-3, atol=1e-3)


def test_all_linear_of_a_model_with_a_head_is_all_six_sites(xlmr: Backbone, tmp_path: Path) -> None:
    folder, model = saved(xlmr, tmp_path / "theirs", "lora", "classify", target_modules="all-linear")
    module = import_folder(folder, on=xlmr)
    assert len(module.parts[0].keys) == 18 and difference(xlmr, module, model) <= 1e-5


def test_labels_of_a_task_are_taken_and_others_made_up(xlmr: Backbone, tmp_path: Path) -> None:
    folder, _ = saved(xlmr, tmp_path / "theirs", "lora", "classify")
    bare = import_folder(folder, on=xlmr)
    assert bare.head is not None and bare.head.labels == ("label_0", "label_1", "label_2") and bare.task == ""
    module = import_folder(folder, on=xlmr, task="xnli", name="nli")
    assert module.head is not None and module.task == module.parts[0].task == "xnli" and module.name == "nli"
    assert module.head.labels[0] == "entailment" and any("does not name its labels" in note for note in module.notes)
    with pytest.raises(ArtifactError, match="3 labels, but udpos|classify tasks, but udpos is a tag task"):
        import_folder(folder, on=xlmr, task="udpos")
    with pytest.raises(ArtifactError, match="has 3 labels, but 2 were given"):
        import_folder(folder, on=xlmr, labels=("a", "b"))
    with pytest.raises(TaskError, match="No task 'xnil'"):
        import_folder(folder, on=xlmr, task="xnil")


def test_the_backbone_that_a_folder_names_is_compared_and_said(xlmr: Backbone, tmp_path: Path) -> None:
    folder, _ = saved(xlmr, tmp_path / "theirs", "lora")
    assert str(xlmr.folder.parent) not in str(import_folder(folder, on=xlmr).training)  # nobody's folders
    edit_json(folder / CONFIG, base_model_name_or_path="someone/other-base", revision="abc")
    assert "someone/other-base@abc as its backbone; whether" in import_folder(folder, on=xlmr).notes[0]
    published = Backbone(xlmr.folder, device="cpu")
    published.id = "FacebookAI/xlm-roberta-base"
    with pytest.raises(
        BackboneError, match="names someone/other-base .* not FacebookAI/xlm-roberta-base.*--other-base"
    ):
        import_folder(folder, on=published)
    assert "was taken instead, as asked" in import_folder(folder, on=published, other_base=True).notes[0]
    edit_json(folder / CONFIG, base_model_name_or_path="xlm-roberta-base", revision=None)  # its name of old
    assert "weights were not compared" in import_folder(folder, on=published).notes[0]
    edit_json(folder / CONFIG, base_model_name_or_path=None)
    assert "names no backbone" in import_folder(folder, on=xlmr).notes[0]


def test_a_folder_of_another_architecture_is_refused(xlmr: Backbone, tiny_bert: Path, tmp_path: Path) -> None:
    folder, _ = saved(Backbone(tiny_bert, device="cpu"), tmp_path / "theirs", "lora")
    with pytest.raises(ArtifactError, match="tensor bert.encoder.* has no place in a LORA module on xlm-roberta"):
        import_folder(folder, on=xlmr)


@pytest.fixture(scope="module")
def theirs(tiny_xlmr: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder of each kind, not to be changed."""
    root, on = tmp_path_factory.mktemp("theirs"), Backbone(tiny_xlmr, device="cpu")
    for name, case, kind in (("lora", "scaled", "classify"), ("dora", "dora", "tag"), ("ia3", "ia3", "tag")):
        saved(on, root / name, case, kind)
    return {path.name: path for path in root.iterdir()}


CONFIGS: list[tuple[str, dict[str, Any], str]] = [
    ("lora", {"bias": "all"}, 'bias: found "all", expected "none"'),
    ("lora", {"lora_bias": True}, "lora_bias: found true"),
    ("lora", {"fan_in_fan_out": True}, "fan_in_fan_out: found true, expected false"),
    ("lora", {"init_lora_weights": "pissa"}, 'init_lora_weights: found "pissa"'),
    ("lora", {"layer_replication": [[0, 2]]}, "layer_replication: found .* does not know"),
    ("lora", {"trainable_token_indices": [1]}, "trainable_token_indices"),
    ("lora", {"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
    ("lora", {"some_new_method": {"on": 1}}, "some_new_method: found .*may change what is computed"),
    ("lora", {"r": 1_000_000_000}, "r: found 1000000000, expected a whole number"),
    ("lora", {"r": 0}, "r: found 0"),
    ("lora", {"r": "8; rm"}, 'r: found "8; rm"'),
    ("lora", {"r": 4.5}, "r: found 4.5"),
    ("lora", {"r": True}, "r: found true"),
    ("lora", {"r": 5}, r"lora_A: found shape \(4, 32\), expected \(5, 32\)"),
    ("lora", {"lora_alpha": 1e30}, "lora_alpha: found 1e[+]30"),
    ("lora", {"lora_alpha": -1}, "lora_alpha: found -1"),
    ("lora", {"use_rslora": "yes"}, 'use_rslora: found "yes", expected true or false'),
    ("lora", {"use_dora": True}, "lora_magnitude_vector is missing"),
    ("dora", {"use_dora": False}, "lora_magnitude_vector has no place"),
    ("lora", {"rank_pattern": {".*query": 4}}, 'rank_pattern: ".[*]query" is a regular expression'),
    ("lora", {"alpha_pattern": {"query": None}}, "alpha_pattern: query: found null"),
    ("lora", {"alpha_pattern": [1]}, "alpha_pattern: found .*expected an object"),
    ("lora", {"target_modules": ["query", "word_embeddings"]}, '"word_embeddings" is none of the places'),
    ("lora", {"target_modules": ["pooler.dense"]}, '"pooler.dense" is none of the places'),
    ("lora", {"target_modules": ["query"]}, "found weights for it, which target_modules does not name"),
    ("lora", {"target_modules": []}, "target_modules: found \\[\\], expected a list of names"),
    ("lora", {"layers_to_transform": [0, 1]}, "layer 2, .*weights for it, which target_modules"),
    ("lora", {"layers_to_transform": [0, 99]}, "layers_to_transform: found 99, this backbone has layers 0 to 2"),
    ("lora", {"layers_pattern": "blocks"}, 'layers_pattern: found "blocks"'),
    ("lora", {"modules_to_save": ["embeddings"]}, "modules_to_save names embeddings"),
    ("lora", {"task_type": "CAUSAL_LM"}, 'task_type: found "CAUSAL_LM"'),
    ("lora", {"task_type": "TOKEN_CLS"}, "is not that of Hugging Face's xlm-roberta class for a tag task"),
    ("lora", {"peft_type": "LOHA"}, 'peft_type: found "LOHA"'),
    ("ia3", {"feedforward_modules": ["intermediate.dense"]}, "intermediate.dense is one of feedforward_modules"),
    ("ia3", {"target_modules": ["key"]}, "which target_modules does not name"),
]


@pytest.mark.parametrize(
    ("name", "changes", "said"), CONFIGS, ids=lambda value: "edit" if callable(value) else str(value)[:40]
)
def test_a_field_that_changes_the_computation_is_refused_by_name(
    name: str, changes: dict[str, Any], said: str, theirs: dict[str, Path], xlmr: Backbone, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(theirs[name], tmp_path / "copy"))
    edit_json(folder / CONFIG, **changes)
    _refused(folder, xlmr, said)


def _add(key: str, *shape: int) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda found: found.update({key: torch.ones(*shape)})


START = "base_model.model.roberta."
TENSORS: list[tuple[str, Callable[[dict[str, torch.Tensor]], Any], str]] = [
    (
        "lora",
        _add(START + "embeddings.word_embeddings.weight", 9, 32),
        "word_embeddings.weight has no place.*backbone itself",
    ),
    ("lora", _add("roberta.embeddings.word_embeddings.weight", 9, 32), "found no 'base_model.model.' before its name"),
    ("lora", _add(START + "encoder.layer.0.output.LayerNorm.weight", 32), "LayerNorm.weight has no place"),
    ("lora", _add(START + "encoder.layer.0.output.dense.weight", 32, 64), "output.dense.weight has no place"),
    ("lora", _add(START + "pooler.dense.lora_A.weight", 4, 32), "pooler.dense.lora_A.weight .*has no place"),
    ("lora", _add(START + "embeddings.word_embeddings.lora_embedding_A", 4, 9), "lora_embedding_A has no place"),
    ("lora", _add(START + "encoder.layer.3.attention.self.query.lora_A.weight", 4, 32), "layer.3.* has no place"),
    ("lora", _add(START + "encoder.layer.00.attention.self.query.lora_A.weight", 4, 32), "layer.00.* has no place"),
    ("lora", _add("base_model.model.other", 2), "tensor other has no place"),
    ("lora", lambda t: t.pop(first(t, "layer.0", "query.lora_A")), "query: lora_A.weight is missing"),
    (
        "lora",
        lambda t: [t.pop(k) for k in list(t) if "layer.1.attention.self.key" in k],
        "layer 1, key: found no weights",
    ),
    ("lora", lambda t: [t.pop(k) for k in list(t) if "lora" in k], "no weights for any of the sites"),
    (
        "lora",
        lambda t: t.update({k: v[:, :5] for k, v in t.items() if "query.lora_A" in k}),
        r"lora_A: found shape \(4, 5\)",
    ),
    ("lora", lambda t: t[first(t, "lora_B")].fill_(float("nan")), "not finite"),
    ("lora", lambda t: t.update({first(t, "lora_B"): torch.ones(32, 4, dtype=torch.int32)}), 'found "I32"'),
    ("lora", lambda t: t.pop(first(t, "classifier.dense.bias")), "head weight classifier.dense.bias is missing"),
    ("lora", lambda t: [t.pop(k) for k in list(t) if "classifier" in k], "modules_to_save names classifier"),
    ("lora", _add("base_model.model.classifier.other", 2), "head weight classifier.other has no place"),
    ("dora", lambda t: t.update({first(t, "magnitude"): torch.ones(3)}), r"lora_magnitude_vector: found shape \(3,\)"),
    (
        "ia3",
        lambda t: t.update({first(t, "ia3_l"): torch.ones(1, 32)}),
        r"ia3_l: found shape \(1, 32\), expected \(32, 1\)",
    ),
]


@pytest.mark.parametrize(
    ("name", "edit", "said"), TENSORS, ids=lambda value: "edit" if callable(value) else str(value)[:40]
)
def test_every_tensor_is_claimed_or_named(
    name: str, edit: Callable[..., Any], said: str, theirs: dict[str, Path], xlmr: Backbone, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(theirs[name], tmp_path / "copy"))
    edit_tensors(folder / WEIGHTS, edit)
    _refused(folder, xlmr, said)


def _refused(folder: Path, on: Backbone, said: str) -> None:
    before = {key: value.clone() for key, value in on.model.state_dict().items()}
    with pytest.raises(ArtifactError, match=said) as caught:
        import_folder(folder, on=on)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert all(torch.equal(value, before[key]) for key, value in on.model.state_dict().items())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not readable as JSON"),
        (b"[]", "expected a JSON object"),
        (b"\xff", "not readable as JSON"),
        (b"[" * 100_000, "not readable as JSON"),
        (b'{"peft_type": "LORA", "peft_type": "IA3"}', "'peft_type' is there twice"),
        (b'{"peft_type": "LORA", "lora_alpha": NaN}', "NaN is no number"),
        (b"{}", "neither 'peft_type'"),
        (b" " * 300_000, "expected 262,144 at most"),
    ],
)
def test_a_config_that_is_none_is_refused(
    content: bytes, said: str, theirs: dict[str, Path], xlmr: Backbone, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(theirs["lora"], tmp_path / "copy"))
    (folder / CONFIG).write_bytes(content)
    _refused(folder, xlmr, said)


def test_weights_that_are_no_safetensors_are_refused_before_anything_is_built(
    theirs: dict[str, Path], xlmr: Backbone, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(theirs["lora"], tmp_path / "copy"))
    good = (folder / WEIGHTS).read_bytes()
    header = json.dumps(
        {f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(30_000)}
    ).encode()
    cases = {
        b"": "header is too large",
        good[: len(good) // 2]: "bytes of tensors, expected",
        b"\xff" * 8 + good[8:]: "header is too large",
        b"PK\x03\x04" + b"x" * 99: "It looks like a pickle",
        len(header).to_bytes(8, "little") + header: "header is too large|expected 20,000 at most",
        (2).to_bytes(8, "little") + b"[]": "expected an object",
        (38).to_bytes(8, "little") + b'{"a":{"dtype":"F8_E4M3"},"a":{},"b":1}': "the key 'a' is there twice",
    }
    for content, said in cases.items():
        (folder / WEIGHTS).write_bytes(content)
        _refused(folder, xlmr, said)
    (folder / WEIGHTS).unlink()
    _refused(folder, xlmr, "not found")
    os.mkfifo(folder / WEIGHTS)
    _refused(folder, xlmr, "not a regular file")


def test_weights_that_nothing_mentions_are_refused(theirs: dict[str, Path], xlmr: Backbone, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(theirs["lora"], tmp_path / "copy"))
    shutil.copy(folder / WEIGHTS, folder / "more.safetensors")
    _refused(folder, xlmr, "more.safetensors: belongs to nothing")


def test_what_is_not_foreign_is_said_to_be_none(theirs: dict[str, Path], xlmr: Backbone, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="No folder"):
        import_folder(tmp_path / "absent", on=xlmr)
    with pytest.raises(ArtifactError, match="no folder of peft or adapters"):
        import_folder(tmp_path, on=xlmr)
    import_folder(theirs["lora"], on=xlmr).save(tmp_path / "ours")
    with pytest.raises(ArtifactError, match="is a module folder of adapterxl already"):
        import_folder(tmp_path / "ours", on=xlmr)
    with pytest.raises(ArtifactError, match="If peft or adapters wrote it: adapterxl import"):
        load(theirs["lora"])
