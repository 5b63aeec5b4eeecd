"""Folders of fusions: bit for bit there and back, an AdapterHub setup where the library has the same, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import adapters
import numpy as np
import pytest
import torch
from adapters.composition import Fuse
from safetensors.torch import load_file, save_file
from samples import make_module, make_part, rows, scores
from sealing import edit_manifest, mend

from adapterxl.artifacts import fusion_layout, inspect, load, read_manifest, store
from adapterxl.artifacts.module import TaskModule
from adapterxl.backbone import Backbone
from adapterxl.engines import verify
from adapterxl.errors import ArtifactError
from adapterxl.modules import Bottleneck, FusionPart, LoRA, Part

KINDS = ("classify", "tag", "span", "choice", "")


def fused(on: Backbone, members: Sequence[Sequence[Part]], variant: str, name: str = "fused") -> FusionPart:
    """A trained fusion with weights that tell members apart."""
    labels = [f"{parts[-1].name}" for parts in members]
    generator = torch.Generator().manual_seed(4)
    begun = FusionPart(name, members, labels, variant).begun(on, generator, on.dtype)
    noise = {key: t + 0.3 * torch.randn(t.shape, generator=generator).to(t) for key, t in begun.tensors().items()}
    part = begun.finished({key: noise[key] for key in begun.learnable()})
    part.task, part.trained_on = "udpos", ()
    return part


def parts_of(kind: str, on: Backbone) -> list[Part]:
    nli = make_part(LoRA(rank=4), "nli", on, 1)
    ner = make_part(LoRA(rank=3, sites=("query", "ffn_down"), layers=(1, 2)), "ner", on, 2, [nli])
    one = make_part(Bottleneck(reduction=5), "nli", on, 5)
    two = make_part(Bottleneck(reduction=8), "nli", on, 6)
    some = [make_part(Bottleneck(reduction=r, layers=(0, 2)), f"some{r}", on, r) for r in (4, 8)]
    houlsby = [make_part(Bottleneck(variant="double_seq_bn", reduction=r), f"h{r}", on, r) for r in (4, 8, 16)]
    top = make_part(LoRA(rank=2), "top", on, 7)
    return {
        "lora": [fused(on, [[nli], [nli, ner]], "lowrank")],
        "lora-and-new": [fused(on, [[nli], [nli, ner]], "lowrank"), top],
        "outside-too": [nli, fused(on, [[nli], [ner]], "lowrank")],
        "two-fusions": [fused(on, [[nli], [ner]], "lowrank"), fused(on, [[one], [two]], "adapterfusion"), top],
        "bottleneck": [fused(on, [[one], [two]], "lowrank")],
        "mixed": [fused(on, [[nli, one], [two]], "lowrank")],
        "hub": [fused(on, [[one], [two]], "adapterfusion")],
        "hub-some-layers": [fused(on, [[part] for part in some], "adapterfusion")],
        "hub-houlsby": [fused(on, [[part] for part in houlsby], "adapterfusion")],
        "hub-and-new": [fused(on, [[one], [two]], "adapterfusion"), make_part(Bottleneck(), "top", on, 8)],
    }[kind]


OWN = ("lora", "lora-and-new", "outside-too", "two-fusions", "bottleneck", "mixed", "hub-and-new")
HUB = ("hub", "hub-some-layers", "hub-houlsby")


@pytest.mark.parametrize("kind", ["tag", ""])
@pytest.mark.parametrize("what", [*OWN, *HUB])
def test_a_loaded_fusion_is_the_saved_one_bit_for_bit(what: str, kind: str, on: Backbone, tmp_path: Path) -> None:
    module = make_module(on, "module", parts_of(what, on), kind)
    module.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.digest() == module.digest() and again.size() == module.size()
    for part, other in zip(module.parts, again.parts, strict=True):
        assert (part.task, part.trained_on, part.layers) == (other.task, other.trained_on, other.layers)
        if isinstance(part, FusionPart):
            assert isinstance(other, FusionPart) and other.trained and other.labels == part.labels
            assert not any(p.requires_grad for p in other.parameters())
            ours, theirs = ([p for parts in one.members for p in parts] for one in (part, other))
            assert [p.digest() for p in ours] == [p.digest() for p in theirs]
            assert [p.trained_on for p in ours] == [p.trained_on for p in theirs]
    tokens = rows(on)
    torch.testing.assert_close(scores(on, module, tokens), scores(on, again, tokens), rtol=0, atol=0)
    layout = read_manifest(tmp_path / "m").layout
    assert layout == ("adapterhub-setup" if what in HUB else "adapterxl")
    vanilla = {"adapter_config.json", "adapter_setup.json"} & {path.name for path in (tmp_path / "m").iterdir()}
    assert vanilla == ({"adapter_setup.json"} if what in HUB else set())
    again.save(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "m")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_part_that_several_members_hold_is_written_once(xlmr: Backbone, tmp_path: Path) -> None:
    make_module(xlmr, "module", parts_of("lora", xlmr)).save(tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m/parts").iterdir()) == ["fused", "ner", "nli"]
    (part,) = load(tmp_path / "m").parts
    assert isinstance(part, FusionPart) and part.members[0][0].digest() == part.members[1][0].digest()


@pytest.mark.parametrize(
    ("what", "kind"), [(what, kind) for what in HUB for kind in (KINDS if what == "hub" else ("tag",))]
)
def test_vanilla_adapters_gives_the_same_scores(what: str, kind: str, on: Backbone, tmp_path: Path) -> None:
    make_module(on, "module", parts_of(what, on), kind).save(tmp_path / "m")
    found = verify(tmp_path / "m", on=on)
    assert found.passed and found.max_difference <= 1e-5, found.detail


_FRESH = """
import json, sys
sys.modules["adapterxl"] = None  # an import of it would raise
import numpy as np, torch, adapters
from adapters.composition import Fuse
job = json.load(open(sys.argv[1]))
model = adapters.AutoAdapterModel.from_pretrained(job["base"])
setup, head = model.load_adapter_setup(job["folder"], use_safetensors=True)
assert isinstance(setup, Fuse) and head == "fused", (setup, head)
model.set_active_adapters(setup)
with torch.no_grad():
    logits = model.eval()(input_ids=torch.tensor(job["ids"]), attention_mask=torch.tensor(job["mask"])).logits
np.save(sys.argv[2], logits.double().numpy())
model.save_adapter_setup(job["again"], setup, head_setup=head, use_safetensors=True)
"""


def test_a_process_without_adapterxl_computes_the_same_and_saves_the_same(on: Backbone, tmp_path: Path) -> None:
    module = make_module(on, "module", parts_of("hub", on))
    module.save(tmp_path / "m")
    tokens = rows(on)
    longest, pad = max(map(len, tokens)), on.config.pad_token_id
    job = {
        "base": str(on.folder), "folder": str(tmp_path / "m"), "again": str(tmp_path / "again"),
        "ids": [row + [pad] * (longest - len(row)) for row in tokens],
        "mask": [[1] * len(row) + [0] * (longest - len(row)) for row in tokens],
    }  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = [sys.executable, "-I", "-c", _FRESH, str(tmp_path / "job.json"), str(tmp_path / "found.npy")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours = scores(on, module, tokens).double().numpy()
    theirs = np.load(tmp_path / "found.npy")[np.array(job["mask"], dtype=bool)]
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(ours).max()
    # What the library writes of it has the same files, settings and tensors as ours.
    own, again = (sorted(contents(tmp_path / name)) for name in ("m", "again"))
    assert [name for name in own if name != store.MANIFEST] == again
    for name in again:
        if name.endswith(".safetensors"):
            one, other = load_file(tmp_path / "m" / name), load_file(tmp_path / "again" / name)
            assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one), name
    for name in ("adapter_setup.json", "nli,nli_2/adapter_fusion_config.json"):
        one, other = (json.loads((tmp_path / where / name).read_text()) for where in ("m", "again"))
        assert {**one, "model_name": ""} == {**other, "model_name": ""}, name
    part = module.parts[0]
    assert isinstance(part, FusionPart)
    file = tmp_path / "again" / "nli,nli_2" / fusion_layout.WEIGHTS
    found = fusion_layout.parse_hub(load_file(file), ["nli", "nli_2"], on.model_type, part.shared, str(file))
    assert part.finished(found).digest() == part.digest()


def test_a_setup_of_the_library_reads_as_the_same_fusion(on: Backbone, tmp_path: Path) -> None:
    """Written by the library itself, with adapters that leave a layer out: it keeps weights without effect there."""
    model: Any = adapters.AutoAdapterModel.from_pretrained(on.folder)
    for name, reduction in (("aa", 4), ("bb", 8)):
        model.add_adapter(name, config=adapters.SeqBnConfig(reduction_factor=reduction, leave_out=[1]))
    model.add_adapter_fusion(Fuse("aa", "bb"))
    model.save_adapter_setup(str(tmp_path), Fuse("aa", "bb"), use_safetensors=True)
    saved = load_file(tmp_path / "aa,bb" / fusion_layout.WEIGHTS)
    found = fusion_layout.parse_hub(saved, ["aa", "bb"], on.model_type, [(0, "ffn"), (2, "ffn")], "here")
    assert len(found) == 10 and len(saved) == 15
    theirs = model.base_model.encoder.layer[2].output.adapter_fusion_layer["aa,bb"]
    assert torch.equal(found["2.ffn.query.weight"], theirs.query.weight)
    with pytest.raises(ArtifactError, match="other has no place in a fusion of aa, bb"):
        fusion_layout.parse_hub(saved | {"other": saved[min(saved)]}, ["aa", "bb"], on.model_type, [], "here")
    with pytest.raises(ArtifactError, match="is missing"):
        fusion_layout.parse_hub(saved, ["aa", "bb"], on.model_type, [(7, "ffn")], "here")


def change(folder: Path, file: str, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors of a file, with its digest in the manifest mended."""
    tensors = load_file(folder / file)
    edit(tensors)
    save_file(tensors, folder / file, metadata={"format": "pt"})
    mend(folder)


def widen(tensors: dict[str, torch.Tensor]) -> None:
    tensors["0.query.Q"] = torch.ones(9, 3)


@pytest.mark.parametrize(
    ("what", "file", "edit", "said"),
    [
        ("lora", "parts/fused/fusion.safetensors", lambda t: t["0.query.Q"].add_(1), "'fused' is not the one"),
        ("lora", "parts/fused/fusion.safetensors", lambda t: t.pop("1.query.K"), "1 tensors missing .*1.query.K"),
        ("lora", "parts/fused/fusion.safetensors", lambda t: t.update(odd=torch.ones(1)), "first: odd"),
        ("lora", "parts/fused/fusion.safetensors", widen, r"0.query.Q: found .9, 3., expected .32, 3."),
        ("lora", "parts/ner/adapter_model.safetensors", lambda t: t[min(t)].add_(1), "'ner' is not the one"),
        ("hub", "nli,nli_2/model_adapter_fusion.safetensors", lambda t: t[min(t)].add_(1), "'fused' is not the one"),
        ("hub", "nli,nli_2/model_adapter_fusion.safetensors", lambda t: t.pop(min(t)), "is missing"),
        ("hub", "nli,nli_2/model_adapter_fusion.safetensors", lambda t: t.update(odd=torch.ones(1)), "no place"),
    ],
)  # fmt: skip
def test_other_tensors_are_refused_even_when_the_files_digest_was_mended(
    what: str, file: str, edit: Callable[[dict[str, torch.Tensor]], Any], said: str, xlmr: Backbone, tmp_path: Path
) -> None:
    make_module(xlmr, "module", parts_of(what, xlmr)).save(tmp_path / "m")
    change(tmp_path / "m", file, edit)
    with pytest.raises(ArtifactError, match=said) as caught:
        load(tmp_path / "m")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda e: e.update(members=None), "expected two or more members"),
        (lambda e: e.update(members=e["members"][:1]), "at least 2 members"),
        (lambda e: e["members"].reverse(), "digest differs"),
        (lambda e: e["members"][0].update(parts=[]), "a head alone"),
        (lambda e: e["members"][0]["parts"].append(json.loads(json.dumps(e))), "none of them a fusion"),
        (lambda e: e["settings"].update(variant="x"), "no variant 'x'"),
        (lambda e: e["settings"].update(rank=2), r"found \(32, 3\), expected \(32, 2\)"),
        (lambda e: e["settings"].update(rank="3"), "of rank '3'"),
        (lambda e: e["members"][0].update(surprise=1), "surprise"),
        (lambda e: e.update(where="up"), "is used but not listed"),
        (lambda e: e.update(where="../up"), "parts.0.where"),
    ],
)
def test_a_wrong_entry_of_a_fusion_is_refused(
    edit: Callable[[dict[str, Any]], Any], said: str, xlmr: Backbone, tmp_path: Path
) -> None:
    make_module(xlmr, "module", parts_of("lora", xlmr)).save(tmp_path / "m")
    edit_manifest(tmp_path / "m", lambda manifest: edit(manifest["parts"][0]))
    with pytest.raises(ArtifactError, match=said) as caught:
        load(tmp_path / "m")
    assert "\n" not in str(caught.value) and str(tmp_path / "m") in str(caught.value)


def test_an_untrained_fusion_is_never_written(xlmr: Backbone, tmp_path: Path) -> None:
    trained = parts_of("lora", xlmr)[0]
    assert isinstance(trained, FusionPart)
    untrained = FusionPart("fuse", trained.members, trained.labels, "lowrank")
    for part in (untrained, untrained.begun(xlmr, torch.Generator(), xlmr.dtype)):
        with pytest.raises(ArtifactError, match="was not trained"):
            make_module(xlmr, "module", [part]).save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_inspect_names_the_members_and_their_parts(xlmr: Backbone, tmp_path: Path) -> None:
    make_module(xlmr, "module", parts_of("lora", xlmr)).save(tmp_path / "m")
    told = dict(inspect(tmp_path / "m"))
    assert told["part fused"].startswith("fusion, ") and told["  fuses ner"] == "nli (lora), ner (lora)"


def test_two_members_of_one_name_and_very_long_names_are_kept_apart(xlmr: Backbone, tmp_path: Path) -> None:
    parts = [make_part(Bottleneck(reduction=r), "n" * 64, xlmr, r) for r in (2, 4, 8, 16)]
    module: TaskModule = make_module(xlmr, "module", [fused(xlmr, [[part] for part in parts], "adapterfusion")])
    module.save(tmp_path / "m")  # a folder named after all of them would be too long, so it is our own form
    assert read_manifest(tmp_path / "m").layout == "adapterxl" and load(tmp_path / "m").digest() == module.digest()
