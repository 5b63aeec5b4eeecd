"""What is saved is what is loaded, bit for bit, and vanilla libraries compute the same from the same folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import LAYOUTS, parts_of
from samples import make_module, rows, scores

from adapterxl.artifacts import load, read_manifest
from adapterxl.artifacts.module import check_base
from adapterxl.backbone import Backbone
from adapterxl.engines import verify
from adapterxl.errors import BackboneError, EngineError
from adapterxl.modules import Bottleneck

KINDS = ("classify", "tag", "span", "choice", "")
VANILLA = {"adapter_config.json", "adapter_setup.json", "adapter_model.safetensors", "adapter.safetensors"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_loaded_module_is_the_saved_one_bit_for_bit(layout: str, kind: str, on: Backbone, tmp_path: Path) -> None:
    module = make_module(on, "module", parts_of(layout, on), kind)
    module.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.digest() == module.digest()
    for part, other in zip(module.parts, again.parts, strict=True):
        ours, theirs = part.tensors(), other.tensors()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        assert part.trained_on == other.trained_on and part.task == other.task
    if module.head is not None:
        assert again.head is not None and again.head.labels == module.head.labels
        assert all(torch.equal(module.head.tensors[key], again.head.tensors[key]) for key in module.head.tensors)
    tokens = rows(on)
    assert torch.equal(scores(on, module, tokens), scores(on, again, tokens))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_root_holds_a_vanilla_config_only_where_a_vanilla_library_gets_it_right(
    layout: str, on: Backbone, tmp_path: Path
) -> None:
    make_module(on, "module", parts_of(layout, on), "tag").save(tmp_path / "m")
    in_root = {path.name for path in (tmp_path / "m").iterdir()} & VANILLA
    expected = {
        "peft": {"adapter_config.json", "adapter_model.safetensors"},
        "adapters": {"adapter_setup.json"} if layout == "stack" else {"adapter_config.json", "adapter.safetensors"},
        None: set(),
    }
    assert in_root == expected[LAYOUTS[layout]]
    assert read_manifest(tmp_path / "m").layout.startswith({"peft": "peft", "adapters": "adapterhub"}.get(
        LAYOUTS[layout] or "", "adapterxl"))  # fmt: skip


def test_parts_can_be_cut_out_again_alone(on: Backbone, tmp_path: Path) -> None:
    parts = parts_of("lora-sequence", on)
    make_module(on, "module", parts).save(tmp_path / "all")
    again = load(tmp_path / "all")
    for part in parts:
        cut = again.part(part.name)
        assert cut.digest() == part.digest()
        make_module(on, part.name, [cut], "").save(tmp_path / part.name)
        assert load(tmp_path / part.name).parts[0].digest() == part.digest()


def test_a_module_saved_twice_gives_the_same_bytes(on: Backbone, tmp_path: Path) -> None:
    module = make_module(on, "module", parts_of("mixed", on))
    for name in ("a", "b"):
        module.save(tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


@pytest.mark.parametrize(
    ("layout", "kind"),
    [  # every head kind on one layout of each library
        (layout, kind)
        for layout, library in LAYOUTS.items()
        for kind in (KINDS if layout in ("lora", "stack") else ("tag",))
        if library
    ],
)
def test_verify_passes_on_every_layout_that_a_vanilla_library_loads(
    layout: str, kind: str, on: Backbone, tmp_path: Path
) -> None:
    make_module(on, "module", parts_of(layout, on), kind).save(tmp_path / "m")
    found = verify(tmp_path / "m", on=on, against=str(LAYOUTS[layout]))
    assert found.passed and found.max_difference <= 1e-5, found.detail


def test_verify_says_which_library_can_load_a_folder(xlmr: Backbone, saved) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EngineError, match="verify it --against adapters"):
        verify(saved("stack", name="a"), on=xlmr, against="peft")
    with pytest.raises(EngineError, match="only adapterxl runs it"):
        verify(saved("mixed", name="b"), on=xlmr, against="peft")
    with pytest.raises(EngineError, match="Did you mean 'peft'"):
        verify(saved("lora", name="c"), on=xlmr, against="pefft")


def test_verify_refuses_another_backbone(tiny_bert: Path, saved) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BackboneError, match="which is not"):
        verify(saved("lora"), on=Backbone(tiny_bert, device="cpu"), against="peft")


def test_every_bottleneck_width_survives_the_librarys_reduction_factor() -> None:
    for hidden in (32, 192, 768, 1024):
        for reduction in range(1, hidden + 1):
            width = max(hidden // reduction, 1)
            assert hidden // (hidden // width) == width
    assert Bottleneck(reduction=5).reduction == 5


_FRESH = """
import json, sys
sys.modules["adapterxl"] = None  # an import of it would raise
import numpy as np, torch, transformers
jobs = json.load(open(sys.argv[1]))
found = {}
for job in jobs:
    ids, mask = torch.tensor(job["ids"]), torch.tensor(job["mask"])
    if job["library"] == "peft":
        import peft
        name = {"classify": "AutoModelForSequenceClassification", "tag": "AutoModelForTokenClassification"}[job["kind"]]
        model = getattr(transformers, name).from_pretrained(job["base"], num_labels=3)
        model = peft.PeftModel.from_pretrained(model, job["folder"])
    else:
        import adapters
        model = adapters.AutoAdapterModel.from_pretrained(job["base"])
        if job["setup"]:
            model.set_active_adapters(model.load_adapter_setup(job["folder"], use_safetensors=True)[0])
        else:
            model.set_active_adapters(model.load_adapter(job["folder"], use_safetensors=True))
    with torch.no_grad():
        found[job["name"]] = model.eval()(input_ids=ids, attention_mask=mask).logits.double().numpy()
assert sys.modules["adapterxl"] is None
np.savez(sys.argv[2], **found)
"""


@pytest.mark.parametrize("library", ["peft", "adapters"])
def test_a_process_without_adapterxl_computes_the_same(
    library: str, tiny_xlmr: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    jobs, expected = [], {}
    for backbone in (Backbone(tiny_xlmr, device="cpu"), Backbone(tiny_bert, device="cpu")):
        tokens = rows(backbone)
        longest, pad = max(map(len, tokens)), backbone.config.pad_token_id
        batch = {
            "ids": [row + [pad] * (longest - len(row)) for row in tokens],
            "mask": [[1] * len(row) + [0] * (longest - len(row)) for row in tokens],
        }
        layouts = ("lora", "lora-sequence") if library == "peft" else ("bottleneck", "houlsby", "parallel", "stack")
        for layout in layouts:
            for kind in ("classify", "tag"):
                name = f"{backbone.model_type}-{layout}-{kind}"
                module = make_module(backbone, "module", parts_of(layout, backbone), kind)
                module.save(tmp_path / name)
                jobs.append({"name": name, "library": library, "kind": kind, "folder": str(tmp_path / name),
                             "base": str(backbone.folder), "setup": layout == "stack", **batch})  # fmt: skip
                expected[name] = (scores(backbone, module, tokens).double().numpy(), batch["mask"])
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-I", "-c", _FRESH, str(tmp_path / "jobs.json"), str(tmp_path / "found.npz")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "found.npz") as found:
        for name, (ours, mask) in expected.items():
            theirs = found[name][np.array(mask, dtype=bool)] if found[name].ndim == 3 else found[name]
            assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(ours).max(), name


def test_the_digest_of_the_tokenizer_is_kept_and_another_one_is_refused(
    saved: Callable[..., Path], xlmr: Backbone, tmp_path: Path
) -> None:
    module = load(saved("lora"))
    assert module.base["tokenizer"] == xlmr.tokens
    check_base(module, xlmr)
    check_base(replace(module, base={**module.base, "tokenizer": None}), xlmr)  # of format 1
    copy = Path(shutil.copytree(xlmr.folder, tmp_path / "base"))
    content = json.loads((copy / "tokenizer.json").read_text(encoding="utf-8"))
    content["normalizer"] = {"type": "Lowercase"}
    (copy / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    other = Backbone(copy, device="cpu", load=False)
    assert other.fingerprint == xlmr.fingerprint
    with pytest.raises(BackboneError, match="'module' was trained with another tokenizer than base has here"):
        check_base(module, other)
