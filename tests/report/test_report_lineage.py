"""What module folders add to a report: labels that tell modules apart, cost, parts, digests of the data."""

from __future__ import annotations

import hashlib
import json

import pytest
from layouts import parts_of
from samples import make_module

from adapterxl.artifacts.manifest import BaseEntry, HeadEntry, Manifest, PartEntry
from adapterxl.backbone import Backbone
from adapterxl.errors import UsageError
from adapterxl.report.facts import data_digests, modules, parts
from adapterxl.report.lineage import lineage
from adapterxl.report.tables import sections


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def saved(make, tmp_path):
    """Scores whose module has a folder with a manifest: options and names of the parts are to be chosen."""

    def build(value=0.5, *, names=("own",), options=None, trained=True, **changes):
        folder = tmp_path / sha(repr((names, options, trained, sorted(changes.items()))))
        folder.mkdir()
        manifest = Manifest(
            name="m", task="xnli" if trained else "", kind="classify", operator="train" if trained else "merge",
            composition=changes.get("composition"), layout="peft",
            base=BaseEntry(name="x", id=None, revision=None, fingerprint=sha("base"), model_type="bert",
                           hidden_size=8, layers=2),
            parts=tuple(
                PartEntry(name=name, task=name, kind="lora", digest=sha(name), settings={}, where=".") for name in names
            ),
            head=HeadEntry(kind="classify", labels=("a",), digest=sha("head"), file="f", keys={}),
            training={
                "method": "lora", "options": options or {"rank": 8, "alpha": 16.0}, "rows": 200, "steps": 25,
                "languages": changes.pop("languages", ["en"]),
                "engine": changes.pop("by", "packed"), "settings": {"epochs": changes.pop("epochs", 1), "seed": 1},
                "data_digests": {"a/train.tsv": sha("data")},
            },
            versions={}, files={},
        )  # fmt: skip
        (folder / "adapterxl.json").write_bytes(manifest.dump())
        content = [sha("base"), [sha(name) for name in names], sha("head")]
        digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        return make({"de": value}, path=str(folder), digest=digest, **changes)

    return build


def labels(found):
    return [column.label for column in sections(found)[0].columns]


def test_modules_that_differ_in_the_languages_of_their_training_stand_in_columns_of_their_own(saved):
    found = [saved(0.5), saved(0.6, languages=["de", "en"])]
    assert labels(found) == ["no intermediate task · languages de en", "no intermediate task · languages en"]
    assert labels(found[:1]) == ["no intermediate task"]


def test_modules_that_differ_in_rank_stand_in_columns_of_their_own(saved):
    found = [
        saved(value, options={"rank": rank, "alpha": 2.0 * rank}, composition=composition)
        for rank, value in ((4, 0.5), (16, 0.7)) for composition in (None, "merge(a)")
    ]  # fmt: skip
    assert labels(found) == [
        "no intermediate task · rank 4", "no intermediate task · rank 16",
        "merge(a) · rank 4", "merge(a) · rank 16",
    ]  # fmt: skip
    gains = sections(found)[0].groups[0].gains.rows[0]
    assert [cell.mean for cell in gains.cells] == [0.0, 0.0]  # each over the baseline of its own rank


def test_modules_of_the_same_options_have_no_label_for_them(saved):
    assert labels([saved(), saved(composition="merge(a)")]) == ["no intermediate task", "merge(a)"]


def test_an_option_that_two_methods_do_not_share_is_no_difference(saved):
    found = [saved(), saved(options={"reduction": 16}, method="bottleneck")]
    assert labels(found) == ["no intermediate task · bottleneck", "no intermediate task · lora"]


def test_how_a_module_was_trained_is_named_only_where_nothing_else_tells_two_runs_apart(saved):
    assert labels([saved(epochs=1), saved(epochs=3)]) == [
        "no intermediate task · epochs 1", "no intermediate task · epochs 3",
    ]  # fmt: skip
    assert labels([saved(by="packed", seed=1), saved(by="peft", seed=2)]) == ["no intermediate task"]


def test_without_folders_the_number_of_parameters_tells_modules_apart(make):
    found = [make({"de": 0.5}, parameters=count, composition=c) for count in (1000, 2000) for c in (None, "a")]
    assert labels(found) == [
        "no intermediate task · 1,000 parameters", "no intermediate task · 2,000 parameters",
        "a · 1,000 parameters", "a · 2,000 parameters",
    ]  # fmt: skip
    found = [make({"de": 0.5}), make({"de": 0.5}, parameters=9, composition="a")]
    assert labels(found) == ["no intermediate task", "a"]  # no two alike, so no label is needed


def test_the_same_run_twice_is_still_refused(saved):
    with pytest.raises(UsageError, match="both score task 'xnli'"):
        sections([saved(), saved(0.6, names=("own", "own2"))])


def test_a_folder_that_holds_another_module_now_is_not_believed(saved):
    one = saved()
    assert lineage(one.module).cost.steps == 25
    assert lineage(one.module.model_copy(update={"digest": sha("other")})) is None
    assert lineage(one.module.model_copy(update={"path": "no\0where"})) is None
    assert lineage(one.module.model_copy(update={"path": None})) is None


def test_a_folder_as_adapterxl_writes_it_is_believed(make, tiny_xlmr, tmp_path):
    on = Backbone(tiny_xlmr, device="cpu")
    for layout, kind in (("lora-sequence", "tag"), ("stack", "")):  # with a head and without
        module = make_module(on, "pos", parts_of(layout, on), kind)
        module.save(tmp_path / layout)
        one = make({"de": 0.5}, path=str(tmp_path / layout), digest=module.digest())
        assert lineage(one.module) is not None


def test_training_cost_and_data_come_from_the_folder_and_are_a_dash_without_it(saved, make):
    section = sections([saved(), make({"de": 0.5}, composition="a")])[0]
    with_folder, without = modules(section)
    assert (with_folder.steps, with_folder.rows, with_folder.training) == ("25", "200", "1 min 5 s")
    assert (without.steps, without.rows) == ("–", "–")
    assert data_digests([section]) == [("a/train.tsv", sha("data"))]


def test_what_a_module_is_built_on_is_listed_and_its_cost_only_where_it_is_known(saved):
    built = saved(names=("squad", "mnli", "own"), composition="merge(squad, mnli)")
    (mnli, squad) = parts(sections([built]))
    assert (squad.name, squad.digests, squad.steps, squad.training) == ("squad", (sha("squad"),), "–", "–")
    scored = saved(names=("squad",), composition="x")  # the module that made the part, scored itself
    (mnli, squad) = parts(sections([built, scored]))
    assert (squad.steps, squad.rows, squad.training, mnli.steps) == ("25", "200", "1 min 5 s", "–")
