"""Folders that vanilla adapters wrote: what is imported answers as the library does; nothing is skipped or guessed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import adapters
import pytest
import torch
from adapters.composition import Parallel, Stack
from foreign import adapter_model, difference, edit_json, edit_tensors, first, hugging_face, randomise
from safetensors.torch import load_file

from adapterxl.artifacts import import_folder, load
from adapterxl.backbone import Backbone
from adapterxl.engines import to_adapters
from adapterxl.errors import ArtifactError
from adapterxl.modules import BottleneckPart, LoRAPart

CONFIG, WEIGHTS = "adapter_config.json", "adapter.safetensors"
CONFIGS: dict[str, Any] = {
    "seq_bn": adapters.SeqBnConfig(reduction_factor=4),
    "seq_bn/5": adapters.SeqBnConfig(reduction_factor=5, leave_out=[1], dropout=0.1),
    "double_seq_bn": adapters.DoubleSeqBnConfig(reduction_factor=8),
    "par_bn": adapters.ParBnConfig(),
    "lora": adapters.LoRAConfig(r=4, alpha=4),
    "lora, scaled": adapters.LoRAConfig(
        r=4, alpha=9, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True, leave_out=[0]
    ),
    "lora, feed-forward": adapters.LoRAConfig(selfattn_lora=False, intermediate_lora=True),
    "ia3": adapters.IA3Config(),
}


def saved(on: Backbone, folder: Path, config: str = "seq_bn", kind: str = "tag") -> tuple[Path, Any]:
    model = adapter_model(on, {"their": CONFIGS[config]}, kind)
    model.save_adapter(str(folder), "their", use_safetensors=True)
    return folder, model


@pytest.mark.parametrize("config", CONFIGS)
def test_what_is_imported_answers_as_adapters_does_and_goes_back_as_it_came(
    config: str, on: Backbone, tmp_path: Path
) -> None:
    folder, model = saved(on, tmp_path / "theirs", config)
    module = import_folder(folder, on=on)
    assert module.name == module.parts[0].name == "their" and difference(on, module, model) <= 1e-5
    assert module.head is not None and module.head.labels == ("c", "a", "b")
    module.save(tmp_path / "ours")
    assert load(tmp_path / "ours").digest() == module.digest()
    to_adapters(module, on=on).save_adapter(str(tmp_path / "back"), "their", use_safetensors=True)
    for file in (WEIGHTS, "model_head.safetensors"):
        theirs, back = load_file(folder / file), load_file(tmp_path / "back" / file)
        assert theirs.keys() == back.keys()
        for key, tensor in theirs.items():
            if config == "lora, scaled":  # the scale is folded into B
                assert key.endswith("lora_B") or torch.equal(back[key], tensor)
            else:
                assert torch.equal(back[key], tensor), key


@pytest.mark.parametrize("kind", ["classify", "tag", "span", "choice", ""])
def test_a_head_comes_along(kind: str, on: Backbone, tmp_path: Path) -> None:
    folder, model = saved(on, tmp_path / "theirs", "seq_bn", kind)
    module = import_folder(folder, on=on)
    assert module.kind == kind and difference(on, module, model) <= 1e-5
    assert module.training.get("choices") == (2 if kind == "choice" else None)


@pytest.mark.parametrize("kind", ["classify", "tag", "span"])
def test_a_head_of_hugging_faces_own_class_comes_along(kind: str, on: Backbone, tmp_path: Path) -> None:
    model = hugging_face(on, kind)
    adapters.init(model)
    model.add_adapter("their", config="seq_bn")
    model.set_active_adapters("their")
    randomise(model)
    for save in (model.save_adapter, model.save_head):
        save(str(tmp_path / "theirs"), *(["their"] if save == model.save_adapter else []), use_safetensors=True)
    module = import_folder(tmp_path / "theirs", on=on)
    assert module.kind == kind and difference(on, module, model) <= 1e-5


def test_a_bare_model_has_other_names_and_the_same_meaning(on: Backbone, tmp_path: Path) -> None:
    model = hugging_face(on, "")
    adapters.init(model)
    model.add_adapter("their", config=CONFIGS["double_seq_bn"])
    model.set_active_adapters("their")
    randomise(model)
    model.save_adapter(str(tmp_path / "theirs"), "their", use_safetensors=True)
    assert all(key.startswith("encoder.") for key in load_file(tmp_path / "theirs" / WEIGHTS))
    assert difference(on, import_folder(tmp_path / "theirs", on=on), model) <= 1e-5


@pytest.mark.parametrize(
    "names",
    [("seq_bn", "double_seq_bn", "seq_bn/5"), ("seq_bn", "lora, scaled"), ("lora", "par_bn"), ("ia3", "seq_bn")],
    ids=str,
)
def test_a_stack_comes_along(names: tuple[str, ...], xlmr: Backbone, tmp_path: Path) -> None:
    model = adapter_model(xlmr, {f"A{n}": CONFIGS[name] for n, name in enumerate(names)}, "tag")
    order = Stack(*(f"A{n}" for n in range(len(names))))
    head = f"A{len(names) - 1}"
    model.save_adapter_setup(str(tmp_path / "theirs"), order, head_setup=head, use_safetensors=True)
    module = import_folder(tmp_path / "theirs", on=xlmr)
    assert [part.name for part in module.parts] == [f"a{n}" for n in range(len(names))] and module.name == "theirs"
    assert difference(xlmr, module, model) <= 1e-5
    module.save(tmp_path / "ours")
    assert load(tmp_path / "ours").digest() == module.digest()
    assert difference(xlmr, module, to_adapters(module, on=xlmr)) <= 1e-5


def test_heads_of_lower_adapters_are_left_behind_and_said(xlmr: Backbone, tmp_path: Path) -> None:
    model = adapter_model(xlmr, {"low": CONFIGS["seq_bn"], "top": CONFIGS["seq_bn"]}, "tag")
    model.add_classification_head("low", num_labels=2)
    for head_setup in ("top", None):
        folder = tmp_path / str(head_setup)
        model.save_adapter_setup(str(folder), Stack("low", "top"), head_setup=head_setup, use_safetensors=True)
        module = import_folder(folder, on=xlmr)
        assert module.kind == "tag" and "Heads not taken along: low (classify)." in module.notes
    edit_json(folder / "adapter_setup.json", head_setup="absent")
    with pytest.raises(ArtifactError, match="head_setup: no head 'absent'"):
        import_folder(folder, on=xlmr)


def test_labels_in_another_order_than_the_tasks_are_put_right(xlmr: Backbone, tmp_path: Path) -> None:
    folder, model = saved(xlmr, tmp_path / "theirs", "seq_bn", "classify")
    names = {"neutral": 0, "contradiction": 1, "entailment": 2}
    edit_json(folder / "head_config.json", config={"head_type": "classification", "layers": 2, "bias": True,
              "activation_function": "tanh", "use_pooler": False, "num_labels": 3, "label2id": names})  # fmt: skip
    plain, told = import_folder(folder, on=xlmr), import_folder(folder, on=xlmr, task="xnli")
    assert plain.head is not None and told.head is not None
    assert plain.head.labels == tuple(names) and told.head.labels == ("entailment", "neutral", "contradiction")
    ours, theirs = told.head.tensors["classifier.out_proj.bias"], plain.head.tensors["classifier.out_proj.bias"]
    assert torch.equal(ours, theirs[[2, 0, 1]])
    edit_json(folder / "head_config.json", config={"head_type": "classification", "layers": 2, "bias": True,
              "activation_function": "tanh", "use_pooler": False, "label2id": {"yes": 0, "no": 1, "x": 2}})  # fmt: skip
    with pytest.raises(ArtifactError, match="has a label 'no', which xnli has not .*--labels"):
        import_folder(folder, on=xlmr, task="xnli")
    assert import_folder(folder, on=xlmr, task="xnli", labels=("neutral", "entailment", "contradiction")).task == "xnli"


@pytest.mark.parametrize(
    ("version", "alpha"), [("adapters.1.0.1", 4.0), ("adapters.0.2.2", 4.0), ("adapters.1.1.0", 9.0)]
)
def test_before_1_1_alpha_was_not_used_whatever_a_folder_says(
    version: str, alpha: float, xlmr: Backbone, tmp_path: Path
) -> None:
    folder, _ = saved(xlmr, tmp_path / "theirs", "lora, scaled")
    edit_json(folder / CONFIG, version=version)
    part = import_folder(folder, on=xlmr).parts[0]
    assert isinstance(part, LoRAPart)
    b = load_file(folder / WEIGHTS)["roberta.encoder.layer.1.attention.self.query.loras.their.lora_B"]
    pair = part.factors(1, "query")
    assert pair is not None
    torch.testing.assert_close(pair[1], b * alpha / 4)
    model = adapters.AutoAdapterModel.from_pretrained(xlmr.folder)  # the library of today reads it so, too
    model.set_active_adapters(model.load_adapter(str(folder), use_safetensors=True))
    assert difference(xlmr, import_folder(folder, on=xlmr), model.eval()) <= 1e-5


def test_names_of_an_older_version_are_known(xlmr: Backbone, tmp_path: Path) -> None:
    folder, model = saved(xlmr, tmp_path / "theirs", "seq_bn")

    def rename(found: dict[str, torch.Tensor]) -> None:
        for key in list(found):
            found[key.replace(".adapters.", ".layer_text_task_adapters.")] = found.pop(key)

    edit_tensors(folder / WEIGHTS, rename)
    assert difference(xlmr, import_folder(folder, on=xlmr), model) <= 1e-5


@pytest.fixture(scope="module")
def theirs(tiny_xlmr: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder of each kind, not to be changed."""
    root, on = tmp_path_factory.mktemp("theirs"), Backbone(tiny_xlmr, device="cpu")
    for name, config, kind in (
        ("bn", "seq_bn", "classify"),
        ("par", "par_bn", ""),
        ("lora", "lora, scaled", ""),
        ("ia3", "ia3", ""),
    ):
        saved(on, root / name, config, kind)
    model = adapter_model(on, {"low": CONFIGS["seq_bn"], "top": CONFIGS["seq_bn"]}, "tag")
    model.save_adapter_setup(str(root / "stack"), Stack("low", "top"), head_setup="top", use_safetensors=True)
    return {path.name: path for path in root.iterdir()}


FIELDS: list[tuple[str, str, Any, str]] = [
    *(
        ("bn", field, value, f"config: {field}: found .*as seq_bn has it")
        for field, value in (
            ("non_linearity", "gelu"),
            ("scaling", "learned"),
            ("scaling", 2.0),
            ("original_ln_before", False),
            ("original_ln_after", False),
            ("residual_before_ln", False),
            ("adapter_residual_before_ln", True),
            ("ln_before", True),
            ("ln_after", True),
            ("use_gating", True),
            ("inv_adapter", "nice"),
            ("phm_layer", True),
            ("cross_adapter", True),
            ("output_adapter", False),
        )
    ),
    ("bn", "mh_adapter", True, 'non_linearity: found "relu", expected "swish"'),
    ("bn", "is_parallel", True, "as par_bn has it"),
    ("bn", "reduction_factor", {"default": 4}, "reduction_factor: found .*one number for all layers"),
    ("bn", "reduction_factor", 0, "reduction_factor: found 0"),
    ("bn", "reduction_factor", 16, r"down.weight: found shape \(8, 32\), expected \(2, 32\)"),
    ("bn", "leave_out", [1], r"found layers \[0, 1, 2\], expected \[0, 2\]"),
    ("bn", "leave_out", [7], "expected a list of layers from 0 to 2"),
    ("bn", "architecture", "prefix_tuning", 'architecture: found "prefix_tuning"'),
    ("bn", "new_thing", 3, "new_thing: found 3, which adapterxl does not know"),
    ("par", "scaling", 1.0, "expected 4.0, as par_bn has it"),
    ("lora", "use_dora", True, "computes DoRA wrongly"),
    ("lora", "use_gating", True, "use_gating: found true"),
    ("lora", "vera_d", 0.1, "vera_d: found 0.1"),
    ("lora", "composition_mode", "mix", 'composition_mode: found "mix"'),
    ("lora", "r", 3, r"lora_A: found shape \(4, 32\), expected \(3, 32\)"),
    ("lora", "r", 10**9, "r: found 1000000000"),
    ("lora", "alpha", float("inf"), "Infinity is no number"),
    ("lora", "alpha", 0, "alpha: found 0"),
    ("lora", "attn_matrices", ["q"], "layer 1, key: its weights and adapter_config.json differ"),
    ("lora", "attn_matrices", r".*", "attn_matrices: found"),
    ("lora", "output_lora", False, "layer 1, ffn_down: its weights"),
    ("ia3", "alpha", 2, "no other scale here"),
]


@pytest.mark.parametrize(
    ("name", "field", "value", "said"), FIELDS, ids=lambda value: "edit" if callable(value) else str(value)[:30]
)
def test_a_field_that_changes_the_computation_is_refused_by_name(
    name: str, field: str, value: Any, said: str, theirs: dict[str, Path], xlmr: Backbone, tmp_path: Path
) -> None:
    import json

    folder = Path(shutil.copytree(theirs[name], tmp_path / "copy"))
    found = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["config"]
    edit_json(folder / CONFIG, config={**found, field: value})
    _refused(folder, xlmr, said)


FOLDERS: list[tuple[str, Callable[[Path], Any], str]] = [
    (
        "bn",
        lambda f: edit_json(f / CONFIG, hidden_size=768),
        "hidden_size: found 768, expected 32, as this backbone has",
    ),
    ("bn", lambda f: edit_json(f / CONFIG, model_type="bert"), 'model_type: found "bert", expected xlm-roberta'),
    ("bn", lambda f: edit_json(f / CONFIG, config="pfeiffer"), 'config: found "pfeiffer", expected an object'),
    ("bn", lambda f: edit_json(f / CONFIG, name="../../x"), '"../../x": expected a plain name'),
    ("bn", lambda f: edit_json(f / CONFIG, name="other"), "no place in a bottleneck adapter named 'other'"),
    ("bn", lambda f: edit_json(f / CONFIG, config=...), "neither 'peft_type'"),
    ("bn", lambda f: edit_json(f / CONFIG, surprise=[1]), "surprise: found"),
    ("lora", lambda f: edit_json(f / CONFIG, version=...), "no version of the library is named"),
    ("lora", lambda f: edit_json(f / CONFIG, version="3.2.1"), 'found "3.2.1"\\), so its scale is unknown'),
    ("bn", lambda f: edit_json(f / "head_config.json", config={"head_type": "dependency_parsing"}), "head_type: found"),
    (
        "bn",
        lambda f: edit_json(f / "head_config.json", config={"head_type": "classification", "layers": 1}),
        "layers: found 1, expected 2",
    ),
    (
        "bn",
        lambda f: edit_json(f / "head_config.json", config={"head_type": "tagging", "layers": 1, "num_labels": 9}),
        "num_labels: found 9, but its weights are for 3",
    ),
    ("bn", lambda f: edit_json(f / "head_config.json", hidden_size=1), "hidden_size: found 1"),
    (
        "bn",
        lambda f: edit_tensors(f / "model_head.safetensors", lambda t: t.update(more=torch.ones(1))),
        "tensor more has no",
    ),
    (
        "bn",
        lambda f: edit_tensors(f / "model_head.safetensors", lambda t: t.pop(first(t, "4.bias"))),
        "4.bias is missing",
    ),
    ("bn", lambda f: (f / "head_config.json").unlink(), "model_head.safetensors: belongs to nothing"),
    (
        "bn",
        lambda f: edit_tensors(
            f / WEIGHTS, lambda t: t.update({"roberta.embeddings.word_embeddings.weight": torch.zeros(9, 32)})
        ),
        "word_embeddings.weight has no place",
    ),
    (
        "bn",
        lambda f: edit_tensors(f / WEIGHTS, lambda t: t.pop(first(t, "layer.1", "down"))),
        "missing or out of place",
    ),
    ("bn", lambda f: edit_tensors(f / WEIGHTS, lambda t: t.clear()), "missing or out of place"),
    (
        "bn",
        lambda f: edit_tensors(
            f / WEIGHTS,
            lambda t: t.update({k.replace("layer.2", "layer.9"): t.pop(k) for k in list(t) if "layer.2" in k}),
        ),
        r"found layers \[0, 1, 9\]",
    ),
    (
        "lora",
        lambda f: edit_tensors(f / WEIGHTS, lambda t: t.pop(first(t, "layer.1", "query", "lora_A"))),
        "found lora_B alone",
    ),
    ("lora", lambda f: edit_tensors(f / WEIGHTS, lambda t: t.update(more=torch.ones(1))), "tensor more has no place"),
    (
        "stack",
        lambda f: edit_json(f / "adapter_setup.json", adapter_setup={"type": "Stack", "children": []}),
        "expected a list",
    ),
    (
        "stack",
        lambda f: edit_json(f / "adapter_setup.json", adapter_setup={"type": "single", "children": ["../x"]}),
        "expected a plain name",
    ),
    (
        "stack",
        lambda f: edit_json(f / "adapter_setup.json", adapter_setup={"type": "Stack", "children": ["low"]}),
        "expected objects",
    ),
    ("stack", lambda f: edit_json(f / "adapter_setup.json", head_setup=["low"]), "head_setup: found"),
    ("stack", lambda f: edit_json(f / "low" / CONFIG, name="top"), "no place in a bottleneck adapter named 'top'"),
    ("stack", lambda f: shutil.rmtree(f / "low"), "not found"),
    ("stack", lambda f: shutil.copy(f / "low" / WEIGHTS, f / "top" / "x.safetensors"), "belongs to nothing"),
]


@pytest.mark.parametrize(
    ("name", "edit", "said"), FOLDERS, ids=lambda value: "edit" if callable(value) else str(value)[:40]
)
def test_what_does_not_fit_is_refused_by_name(
    name: str, edit: Callable[[Path], Any], said: str, theirs: dict[str, Path], xlmr: Backbone, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(theirs[name], tmp_path / "copy"))
    edit(folder)
    _refused(folder, xlmr, said)


def _refused(folder: Path, on: Backbone, said: str) -> None:
    with pytest.raises(ArtifactError, match=said) as caught:
        import_folder(folder, on=on)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_compositions_that_mean_something_else_there_are_refused(xlmr: Backbone, tmp_path: Path) -> None:
    configs = {"one": CONFIGS["lora"], "two": CONFIGS["lora"], "par": CONFIGS["par_bn"], "seq": CONFIGS["seq_bn"]}
    model = adapter_model(xlmr, configs)
    for name, setup, said in (
        ("loras", Stack("one", "two"), "a stack of one and two: the adapters library multiplies"),
        ("par", Stack("seq", "par"), "par_bn in a stack: the adapters library runs only the last"),
        ("parallel", Parallel("one", "two"), 'type: found "Parallel", expected "Stack" or "Fuse"'),
    ):
        model.save_adapter_setup(str(tmp_path / name), setup, use_safetensors=True)
        _refused(tmp_path / name, xlmr, said)


def test_an_imported_bottleneck_is_a_member_like_any_other(theirs: dict[str, Path], xlmr: Backbone) -> None:
    from adapterxl.operators import compose, stack

    one, two = import_folder(theirs["bn"], on=xlmr, name="one"), import_folder(theirs["par"], on=xlmr, name="two")
    both = compose(stack(one, two))
    assert [type(part) for part in both.parts] == [BottleneckPart] * 2
    assert "Heads not taken along: one (classify)." in both.notes
