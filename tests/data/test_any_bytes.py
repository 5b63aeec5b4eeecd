"""Whatever bytes a file holds, a reader gives typed rows or one AdapterXLError, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapterxl.data import LocalIndex
from adapterxl.errors import AdapterXLError
from adapterxl.tasks import get_task

PAIR = {"text": 0, "text_pair": 1, "label": 2}
ENTRIES = {
    "csv": ("mnli", {"reader": "csv", "header": False, "columns": PAIR}, 'a,"b\nc",0\n'),
    "tsv": ("mnli", {"reader": "tsv", "header": False, "columns": PAIR}, "a\tb\tneutral\n"),
    "jsonl": (
        "copa",
        {"reader": "jsonl", "columns": {"context": "c", "question": "q", "choices": ["x", "y"], "label": "l"}},
        '{"c": "a", "q": "cause", "x": "b", "y": "c", "l": 1}\n',
    ),
    "iob": ("panx", {"reader": "iob"}, "Rome\tB-LOC\n.\tO\n\n"),
    "conllu": ("udpos", {"reader": "conllu"}, "1\ta\t_\tX\t_\t_\t_\t_\t_\t_\n\n"),
    "squad": (
        "squad",
        {"reader": "squad"},
        '{"data": [{"paragraphs": [{"context": "a b", "qas": [{"id": "1", "question": "q", '
        '"answers": [{"text": "b", "answer_start": 2}]}]}]}]}',
    ),
}
QUICK = settings(
    max_examples=30, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def edits() -> st.SearchStrategy[list[tuple[float, bytes]]]:
    """Return strategies for a few insertions: a place (share of the length) and some bytes."""
    pieces = st.one_of(st.binary(max_size=4), st.sampled_from([b"\n", b"\t", b'"', b",", b"null", b"[", b"\\ud800"]))
    return st.lists(st.tuples(st.floats(0, 1), pieces), min_size=1, max_size=4)


@pytest.mark.parametrize("reader", ENTRIES)
@QUICK
@given(changes=edits(), cut=st.integers(0, 12))
def test_a_damaged_file_gives_rows_or_one_clear_error(tmp_path: Path, reader, changes, cut):
    name, entry, good = ENTRIES[reader]
    content = good.encode() * (1 if reader == "squad" else 2)
    for place, piece in changes:
        at = int(place * len(content))
        content = content[:at] + piece + content[at:]
    (tmp_path / "f").write_bytes(content[: len(content) - cut])
    document = {"format": 1, "tasks": {name: {**entry, "train": {"en": ["f"]}}}}
    (tmp_path / "adapterxl-data.yaml").write_text(yaml.safe_dump(document))
    source = LocalIndex.open(tmp_path)
    for on_bad_row in ("stop", "drop"):
        try:
            loaded = source.load(get_task(name), "train", "en", on_bad_row=on_bad_row)
        except AdapterXLError as error:
            assert str(error).startswith(str(tmp_path / "f"))
        else:
            assert loaded.examples


@QUICK
@given(changes=edits(), cut=st.integers(0, 12))
def test_a_damaged_index_opens_or_gives_one_clear_error(tmp_path: Path, changes, cut):
    content = b"format: 1\ntasks:\n  panx:\n    reader: iob\n    dev: {en: [a.tsv]}\n    note: x\n"
    for place, piece in changes:
        at = int(place * len(content))
        content = content[:at] + piece + content[at:]
    (tmp_path / "adapterxl-data.yaml").write_bytes(content[: len(content) - cut])
    try:
        LocalIndex.open(tmp_path)
    except AdapterXLError as error:
        assert str(error).startswith(str(tmp_path / "adapterxl-data.yaml"))
