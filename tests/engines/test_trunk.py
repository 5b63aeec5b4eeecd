"""The trunk cache: states read from it are those that the layers below give, whatever the batch, and never damaged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tiny import backbone, distance, frozen, norm_distance, random_part, random_rows

from adapterxl.backbone import Backbone
from adapterxl.engines import trunk as trunk_module
from adapterxl.engines.encoder import encode
from adapterxl.engines.joint import hidden_together
from adapterxl.engines.packed import PackedEngine
from adapterxl.engines.trunk import TrunkCache
from adapterxl.errors import TrainingError, UsageError
from adapterxl.modules import Bottleneck, LoRA, Method
from adapterxl.ragged import pack

LENGTHS = (5, 12, 5, 1, 30, 12, 9)
TOP = LoRA(rank=2, layers=(2,))


@pytest.fixture(params=["tiny_xlmr", "tiny_bert"])
def on(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    monkeypatch.setenv("ADAPTERXL_CACHE", str(tmp_path))
    return backbone(request.getfixturevalue(request.param))


def both(rows: Sequence[Sequence[int]]) -> list[tuple[list[int], list[int]]]:
    """Rows with segment ids: a second segment in the last half."""
    return [(list(row), [0] * (len(row) - len(row) // 2) + [1] * (len(row) // 2)) for row in rows]


def typed(on: Backbone, rows: Sequence[Sequence[int]]) -> list[tuple[list[int], list[int]]]:
    return both(rows) if on.uses_token_types else [(list(row), [0] * len(row)) for row in rows]


def engines(
    on: Backbone, below: Sequence[Method] = (), dtype: str = "fp64", limit: float = 1e9
) -> tuple[PackedEngine, PackedEngine]:
    """One that computes all, and one with a cache."""
    plain, cached = (
        PackedEngine(on, [frozen(random_part(m, on, 5)) for m in below], random_part(TOP, on, 1)) for _ in range(2)
    )
    cached.cache_trunk(dtype, limit)
    return plain, cached


@pytest.mark.parametrize("below", [(), (LoRA(rank=3), Bottleneck())], ids=["plain", "on-frozen-parts"])
def test_states_and_gradients_equal_those_without_a_cache(on: Backbone, below: Sequence[Method]) -> None:
    rows = typed(on, random_rows(LENGTHS, on))
    plain, cached = engines(on, below)
    assert cached.trunk is not None and cached.trunk.layer == 2
    cached.trunk.add(rows)
    for chosen in ([0, 1, 2, 3, 4, 5, 6], [6, 4, 1, 1], [3]):
        batch = pack([rows[i][0] for i in chosen], [rows[i][1] for i in chosen])
        found = [engine.hidden(batch) for engine in (cached, plain)]
        assert distance(*found) < 1e-12
        for states, engine in zip(found, (cached, plain), strict=True):
            states.square().sum().backward()
            assert all(p.grad is not None for p in engine.parameters().values())
    for name, p in plain.parameters().items():
        mine = cached.parameters()[name].grad
        assert mine is not None and p.grad is not None and norm_distance(mine, p.grad) < 1e-12


def test_engines_with_caches_to_other_layers_and_without_run_together_as_alone(
    on: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rate in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        monkeypatch.setattr(on.config, rate, 0.0)
    rows = typed(on, random_rows(LENGTHS, on))
    batches = [
        pack([rows[i][0] for i in chosen], [rows[i][1] for i in chosen]) for chosen in ([0, 4], [5, 1], [2], [6])
    ]
    methods: list[Method] = [TOP, LoRA(rank=2), LoRA(rank=3, layers=(2,)), Bottleneck(layers=(1, 2))]
    together = [PackedEngine(on, [], random_part(method, on, seed)) for seed, method in enumerate(methods)]
    for engine in (together[0], together[2], together[3]):
        engine.cache_trunk("fp64", 1e9).add(rows)
    assert [engine.trunk_layer for engine in together] == [2, 0, 2, 1]
    alone = [PackedEngine(on, [], random_part(method, on, seed)) for seed, method in enumerate(methods)]
    for batch, found, engine in zip(batches, hidden_together(together, batches), alone, strict=True):
        assert distance(found, engine.hidden(batch, training=True)) < 1e-12


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-5), ("bf16", 0.1)])
def test_a_narrow_store_differs_by_its_rounding_only(on: Backbone, dtype: str, tolerance: float) -> None:
    rows = typed(on, random_rows(LENGTHS, on))
    plain, cached = engines(on, dtype=dtype)
    assert cached.trunk is not None
    cached.trunk.add(rows)
    batch = pack([ids for ids, _ in rows], [types for _, types in rows])
    exact = plain.hidden(batch, upto=2)
    stored = cached.hidden(batch, upto=2)
    step = {"fp32": 2.0**-24, "bf16": 2.0**-8}[dtype]  # half a unit in the last place, relative
    assert float(((stored - exact).abs() / exact.abs()).max()) <= step
    assert 0 < distance(cached.hidden(batch), plain.hidden(batch)) < tolerance


def test_rows_of_the_cache_are_not_computed_again_and_others_are(on: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[int] = []
    whole = TrunkCache._compute

    def counting(self: TrunkCache, rows: Sequence[trunk_module.Row]) -> torch.Tensor:
        computed.extend(len(ids) for ids, _ in rows)
        return whole(self, rows)

    monkeypatch.setattr(TrunkCache, "_compute", counting)
    rows = typed(on, random_rows(LENGTHS, on))
    plain, cached = engines(on)
    assert cached.trunk is not None
    cached.trunk.add([*rows[:4], rows[0]])
    assert sorted(computed) == [1, 5, 5, 12]  # a row that is there twice is computed once
    batch = pack([ids for ids, _ in rows], [types for _, types in rows])
    computed.clear()
    assert distance(cached.hidden(batch), plain.hidden(batch)) < 1e-12
    assert sorted(computed) == [9, 12, 30]
    computed.clear()
    again = engines(on)[1]  # another job, or the next run
    assert again.trunk is not None
    again.trunk.add(rows[:4])
    assert computed == []
    assert distance(again.hidden(batch), plain.hidden(batch)) < 1e-12


def test_another_layer_precision_stack_or_row_has_another_file(on: Backbone, tmp_path: Path) -> None:
    rows = typed(on, random_rows(LENGTHS, on))
    variants: list[tuple[Sequence[Method], int, str, int]] = [
        ((), 2, "fp64", 7), ((), 1, "fp64", 7), ((), 2, "fp32", 7), ((LoRA(rank=2),), 2, "fp64", 7), ((), 2, "fp64", 6),
    ]  # fmt: skip
    for number, (below, layer, dtype, count) in enumerate(variants, 1):
        parts = [frozen(random_part(method, on, 5)) for method in below]
        TrunkCache(on, parts, layer, dtype=dtype, limit=1e9, folder=tmp_path).add(rows[:count])
        assert len(list(tmp_path.glob("*.safetensors"))) == number
    upper = [frozen(random_part(LoRA(rank=2, layers=(2,)), on, 5))]  # acts above: the states are the same
    TrunkCache(on, upper, 2, dtype="fp64", limit=1e9, folder=tmp_path).add(rows)
    assert len(list(tmp_path.glob("*.safetensors"))) == len(variants)


def test_a_damaged_file_is_made_anew_and_an_unfinished_one_never_appears(
    on: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = typed(on, random_rows(LENGTHS, on))

    def opened() -> TrunkCache:
        cache = TrunkCache(on, [], 2, dtype="fp32", limit=1e9, folder=tmp_path / "trunk")
        cache.add(rows)
        return cache

    opened()
    (file,) = (tmp_path / "trunk").glob("*.safetensors")
    content = file.read_bytes()
    with safe_open(file, "pt") as stored:
        assert stored.get_tensor("hidden").shape == (sum(LENGTHS), on.hidden)
    for damaged in (content[:-1], content[:500], content + b"x", content[:5000] + b"?" + content[5001:]):
        file.write_bytes(damaged)
        opened()
        assert file.read_bytes() == content and "is damaged; it is made anew" in capsys.readouterr().err

    def broken(*_: object) -> torch.Tensor:
        raise OSError(28, "No space left on device")

    file.unlink()
    monkeypatch.setattr(TrunkCache, "_compute", broken)
    with pytest.raises(TrainingError, match="cannot be written .No space left on device"):
        opened()
    assert [file.name for file in (tmp_path / "trunk").iterdir()] == [".held"]
    monkeypatch.undo()
    (tmp_path / "trunk" / f".{file.name}.tmp-{32 * '0'}").write_bytes(b"half")
    opened()
    assert {file.suffix for file in (tmp_path / "trunk").iterdir()} == {"", ".safetensors"}


def test_of_processes_that_want_the_same_rows_one_computes_and_the_others_read(
    on: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, computed, compute = typed(on, random_rows(LENGTHS, on)), list[int](), TrunkCache._compute

    def slow(self: TrunkCache, given: Any) -> torch.Tensor:
        computed.append(len(given))
        time.sleep(0.2)  # the others come meanwhile
        return compute(self, given)

    monkeypatch.setattr(TrunkCache, "_compute", slow)
    caches = [TrunkCache(on, [], 2, dtype="fp32", limit=1e9, folder=tmp_path) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:  # flock keeps out whoever opens the file again, thread or process
        list(pool.map(lambda cache: cache.add(rows), caches))
    assert sum(computed) == len(rows)


def test_the_size_is_announced_and_bounded_and_old_files_give_way(
    on: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = typed(on, random_rows(LENGTHS, on))
    size = 1024 + sum(LENGTHS) * on.hidden * 2

    def fill(layer: int, limit: float) -> None:
        TrunkCache(on, [], layer, dtype="bf16", limit=limit, folder=tmp_path / "trunk").add(rows)

    with pytest.raises(UsageError, match=r"7 rows \(74 tokens\) take .* in bf16, and --trunk-cache-limit is"):
        fill(2, size - 1)
    assert not list((tmp_path / "trunk").glob("*.safetensors"))
    fill(2, size)
    said = capsys.readouterr().err
    assert "layers 0 to 1 are computed once for 7 rows (74 tokens)" in said and f"{size / 1e9:.3g} GB" in said
    fill(1, size)
    assert "gives way" in capsys.readouterr().err
    (left,) = (tmp_path / "trunk").glob("*.safetensors")
    assert left.stat().st_size == size
    fill(1, 2 * size)
    assert "are read from" in capsys.readouterr().err
    monkeypatch.setattr(trunk_module, "_free", lambda folder: 10)
    with pytest.raises(UsageError, match="GB free. Name another place with ADAPTERXL_CACHE"):
        fill(2, 2 * size)


def test_a_module_in_the_lowest_layer_leaves_nothing_to_cache_and_a_head_alone_everything(on: Backbone) -> None:
    engine = PackedEngine(on, [], random_part(LoRA(rank=2), on))
    with pytest.raises(UsageError, match="'part' learns in layer 0, .* such as --layers 2-2"):
        engine.cache_trunk("bf16", 1e9)
    head_only = PackedEngine(on, [frozen(random_part(LoRA(rank=2), on))], None)
    assert head_only.cache_trunk("fp64", 1e9).layer == 3
    rows = typed(on, random_rows(LENGTHS, on))
    batch = pack([ids for ids, _ in rows], [types for _, types in rows])
    expected = PackedEngine(on, [frozen(random_part(LoRA(rank=2), on))], None).hidden(batch)
    assert distance(head_only.hidden(batch), expected) < 1e-12


def test_rows_of_several_stacks_in_one_batch_find_their_states(on: Backbone, tmp_path: Path) -> None:
    rows = typed(on, random_rows(LENGTHS, on))
    plan = [[random_part(TOP, on, 1)], [random_part(Bottleneck(layers=(2,)), on, 2)]]
    batch = pack([ids for ids, _ in rows], [types for _, types in rows], [1, 0, 0, 1, 1, 0, 1])
    cache = TrunkCache(on, [], 2, dtype="fp64", limit=1e9, folder=tmp_path)
    for held in (rows[:3], rows):  # the rest is computed
        cache.add(held)
        found, expected = encode(on, batch, plan, after=(2, cache.hidden(batch))), encode(on, batch, plan)
        assert isinstance(found, torch.Tensor) and isinstance(expected, torch.Tensor)
        assert distance(found, expected) < 1e-12
