"""The sizes that the documentation names are those of folders, for every kind, and a fusion stays small."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import artifact_sizes

    return artifact_sizes


def test_every_kind_is_written_and_its_bytes_are_those_of_its_weights_and_little_else(sizes):
    small = sizes.Size("small", 64, 128, 3)
    for kind, make in sizes.KINDS.items():
        found = sizes.measure(make(small), small)
        assert 4 * found["parameters"] <= found["weight_bytes"] < found["bytes"], kind
        assert found["bytes"] < 5.5 * found["parameters"] + 40_000, kind


def test_a_low_rank_fusion_at_the_sizes_of_xlmr_base_is_at_most_two_mib(sizes):
    made = sizes.KINDS["low-rank fusion of two LoRA rank 8, with them"](sizes.SIZES[0])
    (part,) = made.parts
    assert 4 * sum(tensor.numel() for tensor in part.tensors().values()) <= 2 * 2**20
