"""The Python on a card runs, and gives what the module gives."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from layouts import LAYOUTS, parts_of
from samples import make_module, rows, scores, write_data

from adapterxl.backbone import Backbone
from adapterxl.evaluation import evaluate
from adapterxl.hub import backbone_card, card
from adapterxl.tasks import get_task

KINDS = ("classify", "tag", "span", "choice", "")
LABELS = ("x", "y'\"z", "日本")


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def placed(block: str, **places: str) -> str:
    """A block with its first lines set: each is one assignment of a name that is to be replaced."""
    lines = block.split("\n")
    for number, (name, value) in enumerate(places.items()):
        assert lines[number].startswith(f"{name} = "), lines[number]
        lines[number] = f"{name} = {value!r}"
    return "\n".join(lines)


_FRESH = """
import json, sys
sys.modules["adapterxl"] = None  # an import of it would raise
import numpy as np, torch
found, labels = {}, {}
for job in json.load(open(sys.argv[1])):
    space = {}
    exec(compile(job["block"], job["name"], "exec"), space)
    model, kind = space["model"], job["kind"]
    ids, mask = torch.tensor(job["ids"]), torch.tensor(job["mask"])
    if kind == "choice":
        ids, mask = ids.view(-1, 2, ids.shape[-1]), mask.view(-1, 2, mask.shape[-1])
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask)
    if kind == "span":
        got = torch.stack((out.start_logits, out.end_logits), -1)
    elif kind == "":
        got = out.last_hidden_state
    else:
        got = out.logits.flatten()[:, None] if kind == "choice" else out.logits
    found[job["name"]] = got.double().numpy()
    if kind in ("classify", "tag"):
        names = model.get_labels() if hasattr(model, "get_labels") else [model.config.id2label[i] for i in range(3)]
        labels[job["name"]] = [space["labels"], names]
assert sys.modules["adapterxl"] is None
np.savez(sys.argv[2], **found)
json.dump(labels, open(sys.argv[3], "w"))
"""


@pytest.mark.slow  # the cards of hub_cards/ are held to the same by default
@pytest.mark.parametrize("library", ["peft", "adapters"])
def test_the_vanilla_block_answers_as_we_do_in_a_process_without_adapterxl(
    library: str, tiny_xlmr: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    jobs: list[dict[str, Any]] = []
    expected: dict[str, tuple[np.ndarray, list[list[int]]]] = {}
    for on in (Backbone(tiny_xlmr, device="cpu"), Backbone(tiny_bert, device="cpu")):
        tokens = rows(on)
        longest, pad = max(map(len, tokens)), on.config.pad_token_id
        ids = [row + [pad] * (longest - len(row)) for row in tokens]
        mask = [[1] * len(row) + [0] * (longest - len(row)) for row in tokens]
        every = ("lora-sequence", "stack")  # all kinds of head on these, one on the others
        for layout in [layout for layout, loads in LAYOUTS.items() if loads == library]:
            for kind in KINDS if layout in every else ("tag",):
                name = f"{on.model_type}-{layout}-{kind}"
                module = make_module(on, "module", parts_of(layout, on), kind, labels=LABELS)
                module.save(tmp_path / name)
                block = blocks(card(tmp_path / name, repo="someone/module"))[1]
                block = placed(block, folder=str(tmp_path / name), base=str(on.folder))
                jobs.append({"name": name, "kind": kind, "block": block, "ids": ids, "mask": mask})
                expected[name] = (scores(on, module, tokens).double().numpy(), mask)
    (tmp_path / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    places = [str(tmp_path / name) for name in ("jobs.json", "found.npz", "labels.json")]
    done = subprocess.run([sys.executable, "-I", "-c", _FRESH, *places], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(places[1]) as found:
        assert set(found) == set(expected)
        for name, (ours, mask) in expected.items():
            theirs = found[name][np.array(mask, dtype=bool)] if found[name].ndim == 3 else found[name]
            assert ours.shape == theirs.shape and np.abs(ours - theirs).max() <= 1e-4, name
    labels = json.loads(Path(places[2]).read_text(encoding="utf-8"))
    assert len(labels) >= 4
    for name, (ours, theirs) in labels.items():
        assert ours == theirs == list(LABELS), name


@pytest.mark.parametrize("layout", [layout for layout, library in LAYOUTS.items() if library is None])
def test_a_layout_without_vanilla_form_says_so_in_place_of_a_block(
    layout: str, saved: Callable[..., Path], xlmr: Backbone
) -> None:
    text = card(saved(layout))
    assert len(blocks(text)) == 1 and "No vanilla library runs this" in text


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data(tmp_path / "data")


@pytest.mark.parametrize(
    ("layout", "task", "trained", "kind", "options"),
    [
        ("lora-sequence", "udpos", "udpos", "tag", {}),
        ("mixed", "xnli", "mnli", "classify", {"limit": 5, "languages": ["en", "fr"]}),
        ("stack", "copa", "copa", "choice", {}),
        ("bottleneck", "xquad", "tydiqa", "span", {"train_from": "tydiqa", "languages": "zh"}),
        ("lora", "tatoeba", "", "", {"layer": 2, "center": True}),
        ("nothing", "udpos", "udpos", "tag", {"languages": "de,en"}),
    ],
)
def test_the_adapterxl_block_gives_the_scores_on_the_card(
    layout: str, task: str, trained: str, kind: str, options: dict[str, Any], xlmr: Backbone, data: Path, tmp_path: Path
) -> None:
    module = make_module(xlmr, trained or "none", parts_of(layout, xlmr), kind, labels=get_task(task).labels)
    module = module.save(tmp_path / "module")
    scored = evaluate(module, on=xlmr, task=task, data=data, progress=False, **options)
    block = blocks(card(tmp_path / "module", [scored]))[0]
    space: dict[str, Any] = {}
    exec(placed(block, folder=str(tmp_path / "module"), base=str(xlmr.folder), data=str(data)), space)
    assert space["scores"].records == scored.records and space["scores"].options == scored.options
    assert space["scores"].expected_languages == scored.expected_languages


def test_a_module_of_a_users_own_task_is_scored_with_the_tasks_file(xlmr: Backbone, tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("text\tlabel\nThe river\tgood\nThe road\tbad\n", encoding="utf-8")
    (tmp_path / "mood.yaml").write_text(
        "name: mood\nkind: classify\nlabels: [good, bad]\nreader: tsv\n"
        "columns: {text: text, label: label}\ntest: {en: [test.tsv]}\n",
        encoding="utf-8",
    )
    module = make_module(xlmr, "mood", parts_of("lora", xlmr), "classify", labels=("good", "bad")).save(tmp_path / "m")
    scored = evaluate(module, on=xlmr, task=tmp_path / "mood.yaml", progress=False)
    block = blocks(card(tmp_path / "m", [scored]))[0]
    assert 'task = "mood.yaml"' in block
    space: dict[str, Any] = {}
    exec(placed(block, folder=str(tmp_path / "m"), base=str(xlmr.folder), task=str(tmp_path / "mood.yaml")), space)
    assert space["scores"].records == scored.records


@pytest.mark.parametrize("layout", ["lora", "stack", "mixed"])
def test_a_module_without_head_or_scores_is_at_least_loaded(
    layout: str, saved: Callable[..., Path], xlmr: Backbone, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(layout, "")
    space: dict[str, Any] = {}
    exec(placed(blocks(card(folder))[0], folder=str(folder), base=str(xlmr.folder)), space)
    assert f"{space['module'].size():,} weights" in capsys.readouterr().out


def test_the_blocks_of_a_backbone_run(tiny_bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours, vanilla = blocks(backbone_card(tiny_bert, languages=["en"]))
    space: dict[str, Any] = {}
    exec(placed(ours, base=str(tiny_bert)), space)
    assert space["backbone"].fingerprint in capsys.readouterr().out
    exec(placed(vanilla, base=str(tiny_bert)), space)
    assert isinstance(space["hidden"], torch.Tensor) and space["hidden"].shape[-1] == 32
