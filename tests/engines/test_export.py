"""Live vanilla objects answer as the module does; what a library cannot hold is refused by the part's name."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign import difference
from samples import make_module, rows, scores

from adapterxl.artifacts import TaskModule
from adapterxl.backbone import Backbone
from adapterxl.engines import to_adapters, to_peft
from adapterxl.engines.packed import finished, weight
from adapterxl.errors import AdapterXLError, BackboneError, EngineError
from adapterxl.modules import Bottleneck, DoRA, DoRAPart, IA3Part, LoRA, LoRAPart, Part, RsLoRA
from adapterxl.modules.lora import Key, site_shape

SITES = ("query", "value", "ffn_down")


@pytest.fixture(scope="module")
def on(tiny_xlmr: Path) -> Backbone:
    return Backbone(tiny_xlmr, device="cpu")


def part(method: LoRA | Bottleneck, name: str, on: Backbone, seed: int, below: Sequence[Part] = ()) -> Part:
    """A part as training on top of others would leave it."""
    generator = torch.Generator().manual_seed(seed)
    made = method.build(name, on, generator, on.dtype)
    if isinstance(made, DoRAPart):
        made.bind(partial(weight, on), below)
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    done = finished(made)
    done.trained_on = tuple(each.digest() for each in below)
    return done


def ia3(on: Backbone, keys: Sequence[Key], seed: int = 1) -> IA3Part:
    generator = torch.Generator().manual_seed(seed)
    scales = {key: 1 + 0.3 * torch.randn(site_shape(key[1], on)[0], generator=generator) for key in keys}
    return IA3Part("ia3", scales).requires_grad_(False)


def kinds(on: Backbone) -> dict[str, list[Part]]:
    """Every kind that a vanilla library can hold."""
    dora = part(DoRA(rank=3, sites=("query", "ffn_up")), "dora", on, 4)
    seq, double = (
        part(Bottleneck(reduction=5), "seq", on, 5),
        part(Bottleneck(variant="double_seq_bn", layers=(0, 2)), "two", on, 6),
    )
    return {
        "lora": [part(LoRA(rank=4, alpha=9, sites=SITES), "lora", on, 1)],
        "rslora": [part(RsLoRA(rank=4, sites=SITES), "rslora", on, 2)],
        "mixed": [
            part(LoRA(rank=4, sites=SITES, rank_pattern={"1": 2, "value": 6}, alpha_pattern={"2": 1}), "mixed", on, 3)
        ],
        "subset": [part(LoRA(rank=2, sites=("ffn_up",), layers=(2,)), "subset", on, 3)],
        "two": [
            part(LoRA(rank=2, sites=("key",), layers=(0, 1)), "a", on, 7),
            part(LoRA(rank=3, sites=SITES), "b", on, 8),
        ],
        "everywhere": [part(LoRA(rank=2), "everywhere", on, 9)],
        "dora": [dora],
        "dora after dora": [dora, part(DoRA(rank=2, sites=("query",)), "second", on, 10, [dora])],
        "ia3": [ia3(on, [(0, "key"), (1, "key"), (1, "ffn_up")])],
        "seq_bn": [seq],
        "double_seq_bn": [double],
        "par_bn": [part(Bottleneck(variant="par_bn", layers=(1, 2)), "par", on, 11)],
        "stack": [seq, double, part(Bottleneck(reduction=16), "seq", on, 12)],
        "lora and bottlenecks": [seq, part(LoRA(rank=2, sites=SITES), "lora", on, 1), double],
    }


PEFT = ("lora", "rslora", "mixed", "subset", "two", "everywhere", "dora", "dora after dora", "ia3")
HUB = (
    "lora",
    "rslora",
    "mixed",
    "subset",
    "two",
    "ia3",
    "seq_bn",
    "double_seq_bn",
    "par_bn",
    "stack",
    "lora and bottlenecks",
)
HEADS = ("classify", "tag", "span", "choice", "")


@pytest.mark.parametrize("name", PEFT)
def test_a_live_peft_object_answers_the_same(name: str, on: Backbone) -> None:
    module = make_module(on, "module", kinds(on)[name], "tag")
    assert difference(on, module, to_peft(module, on=on)) <= 1e-5


@pytest.mark.parametrize("name", HUB)
def test_a_live_adapters_object_answers_the_same(name: str, on: Backbone) -> None:
    module = make_module(on, "module", kinds(on)[name], "tag")
    assert difference(on, module, to_adapters(module, on=on)) <= 1e-5


@pytest.mark.parametrize("kind", HEADS)
def test_live_objects_have_the_head(kind: str, on: Backbone) -> None:
    parts = kinds(on)
    for name, export in (("dora", to_peft), ("lora", to_adapters), ("stack", to_adapters)):
        module = make_module(on, "module", parts[name], kind)
        assert difference(on, module, export(module, on=on)) <= 1e-5, name


def test_live_objects_are_the_librarys_own_and_save_what_it_loads(on: Backbone, tmp_path: Path) -> None:
    import adapters
    import peft

    module = make_module(on, "module", kinds(on)["mixed"], "tag")
    live, hub = to_peft(module, on=on), to_adapters(module, on=on)
    assert type(live).__module__.startswith("peft.") and type(hub).__module__.startswith("adapters.")
    hub.save_adapter(str(tmp_path / "hub"), "mixed", use_safetensors=True)
    again = adapters.AutoAdapterModel.from_pretrained(on.folder)
    again.set_active_adapters(again.load_adapter(str(tmp_path / "hub"), use_safetensors=True))
    assert difference(on, module, again.eval()) <= 1e-5
    assert isinstance(live, peft.PeftModel) and list(live.peft_config) == ["default"]


def _add(*names: str) -> Callable[[dict[str, list[Part]]], list[Part]]:
    return lambda found: [each for name in names for each in found[name]]


@pytest.mark.parametrize(
    ("parts", "export", "said"),
    [
        (_add("seq_bn"), to_peft, "Part 'seq' is a bottleneck, which peft has not. Use to_adapters"),
        (_add("lora", "seq_bn"), to_peft, "Part 'seq' is a bottleneck"),
        (_add("ia3", "lora"), to_peft, "Part 'ia3' is an IA3 with other parts"),
        (_add("dora"), to_adapters, "Part 'dora' is a DoRA, which adapters computes wrongly. Use to_peft"),
        (_add("everywhere"), to_adapters, "Part 'everywhere' acts at attention_output.*Use to_peft"),
        (_add("ia3", "lora"), to_adapters, "Part 'ia3' is an IA3 together with another"),
        (_add("par_bn", "seq_bn"), to_adapters, "Part 'par' is a par_bn in a stack"),
        (_add(), to_peft, "is a head alone"),
        (_add(), to_adapters, "is a head alone"),
    ],
)
def test_what_a_library_cannot_hold_is_refused_by_the_parts_name(
    parts: Callable[[dict[str, list[Part]]], list[Part]], export: Callable[..., object], said: str, on: Backbone
) -> None:
    with pytest.raises(EngineError, match=said):
        export(make_module(on, "module", parts(kinds(on)), "tag"), on=on)


def test_an_export_onto_another_backbone_is_refused(on: Backbone, tiny_bert: Path) -> None:
    module = make_module(on, "module", kinds(on)["lora"], "tag")
    for export in (to_peft, to_adapters):
        with pytest.raises(BackboneError, match="which is not this backbone"):
            export(module, on=Backbone(tiny_bert, device="cpu"))
    assert issubclass(BackboneError, AdapterXLError)


def test_zeros_that_fill_up_change_nothing(on: Backbone) -> None:
    (mixed,) = kinds(on)["mixed"]
    assert isinstance(mixed, LoRAPart) and len({mixed.rank(*key) for key in mixed.keys}) > 1
    model = to_adapters(make_module(on, "module", [mixed], ""), on=on)
    for layer, site in mixed.keys:
        path = {"query": "attention.self.query", "value": "attention.self.value", "ffn_down": "output.dense"}[site]
        lora = model.get_submodule(f"roberta.encoder.layer.{layer}.{path}").loras["mixed"]
        a, b = mixed.factors(layer, site) or (None, None)
        assert a is not None and b is not None and lora.lora_A.shape[0] == 6
        assert torch.equal(lora.lora_A[: a.shape[0]], a) and not lora.lora_A[a.shape[0] :].any()
        assert torch.equal(lora.lora_B[:, : b.shape[1]], b) and not lora.lora_B[:, b.shape[1] :].any()


_FRESH = """
import json, sys
sys.modules["adapterxl"] = None  # an import of it would raise
import adapters, numpy as np, peft, torch, transformers
kinds = {"classify": "SequenceClassification", "tag": "TokenClassification", "span": "QuestionAnswering",
         "choice": "MultipleChoice"}
found = {}
for job in json.load(open(sys.argv[1])):
    ids, mask = torch.tensor(job["ids"]), torch.tensor(job["mask"])
    if job["kind"] == "choice":
        ids, mask = (t.view(-1, 2, t.shape[-1]) for t in (ids, mask))
    if job["library"] == "peft":
        extra = {"num_labels": 3} if job["kind"] in ("classify", "tag") else {}
        model = getattr(transformers, "AutoModelFor" + kinds[job["kind"]]).from_pretrained(job["base"], **extra)
        model = peft.PeftModel.from_pretrained(model, job["folder"])
    else:
        model = adapters.AutoAdapterModel.from_pretrained(job["base"])
        if job["setup"]:
            model.set_active_adapters(model.load_adapter_setup(job["folder"], use_safetensors=True)[0])
        else:
            model.set_active_adapters(model.load_adapter(job["folder"], use_safetensors=True))
    with torch.no_grad():
        output = model.eval()(input_ids=ids, attention_mask=mask)
    both = job["kind"] == "span"
    found[job["name"]] = torch.stack((output.start_logits, output.end_logits), -1) if both else output.logits
assert sys.modules["adapterxl"] is None
np.savez(sys.argv[2], **{name: value.numpy() for name, value in found.items()})
"""


def test_every_kind_and_head_answers_the_same_in_a_process_that_cannot_import_adapterxl(
    on: Backbone, tmp_path: Path
) -> None:
    tokens = rows(on)
    longest = max(map(len, tokens))
    batch = {"ids": [row + [on.config.pad_token_id] * (longest - len(row)) for row in tokens],
             "mask": [[1] * len(row) + [0] * (longest - len(row)) for row in tokens]}  # fmt: skip
    jobs, modules = [], dict[str, TaskModule]()
    vanilla = {name: "peft" for name in PEFT} | {
        name: "adapters" for name in ("seq_bn", "double_seq_bn", "par_bn", "stack")
    }
    for number, (name, library) in enumerate(vanilla.items()):
        every = HEADS[:4] if name in ("lora", "stack") else [HEADS[number % 4]]
        for kind in every:
            module = make_module(on, "module", kinds(on)[name], kind)
            folder = tmp_path / f"{name}-{kind}"
            module.save(folder, on=on)
            modules[folder.name] = module
            jobs.append({"name": folder.name, "library": library, "kind": kind, "folder": str(folder),
                         "base": str(on.folder), "setup": name == "stack", **batch})  # fmt: skip
    (tmp_path / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-I", "-c", _FRESH, str(tmp_path / "jobs.json"), str(tmp_path / "found.npz")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    mask = np.array(batch["mask"], dtype=bool)
    with np.load(tmp_path / "found.npz") as found:
        for name, module in modules.items():
            ours, theirs = scores(on, module, tokens).numpy(), found[name]
            theirs = theirs[mask] if theirs.ndim == 3 else theirs.reshape(ours.shape)
            assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(ours).max(), name
