"""The model of the cost against what really is: bytes kept for the backward pass, weights, peaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from tiny import frozen, make_tiny_xlmr, random_part, random_rows

from adapterxl import Bottleneck, DoRA, LoRA
from adapterxl.backbone import Backbone
from adapterxl.data.collate import collate
from adapterxl.data.prepare import Item
from adapterxl.engines.packed import PackedEngine
from adapterxl.evaluation.predict import head_scores
from adapterxl.modules import FusionPart, Part, make_head
from adapterxl.modules.heads import row_losses
from adapterxl.training.cost import Options, step_cost
from adapterxl.training.memory import options_of

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
RAGGED, LONG = (40, 9, 3, 25, 9, 1), (96,) * 6
CHECKPOINTED = Options(checkpointing=True)


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import measures

    return measures


def items_of(kind: str, lengths: Sequence[int], on: Backbone) -> list[Item]:
    """Rows of these lengths, as data of a kind of task."""
    found = []
    for row in random_rows(lengths, on):
        places, types = tuple(range(0, len(row), 2)), ((0,) * len(row),)
        target: Any = {"tag": (0,) * len(places), "mask": (0,) * len(places), "span": (0, 0)}.get(kind, 0)
        words = {"positions": places, "words": places} if kind in ("tag", "mask") else {}
        found.append(Item(0, (tuple(row),), types, target, **words))
    return found


class Step:
    """A real step, and what the model says of it."""

    def __init__(
        self, folder: Path, method: Any, options: Options, lengths: Sequence[int], kind: str = "classify",
        below: Sequence[Part] = (), device: str = "cpu",
    ) -> None:  # fmt: skip
        self.on = Backbone(
            folder, dtype=options.dtype, bits=options.bits, embeddings=options.embeddings,
            checkpointing=options.checkpointing, device=device,
        )  # fmt: skip
        new = None if method is None else method.build("new", self.on, torch.Generator(), torch.float32)
        self.items = items_of(kind, lengths, self.on)
        head = make_head(kind, self.on, ("x", "y", "z"))
        self.cost = step_cost(self.on, options, below, new, [(head, self.items)])
        self.engine, self.head = PackedEngine(self.on, below, new), head.to(self.on.device)
        self.learns = [*self.engine.parameters().values(), *self.head.parameters()]

    def loss(self) -> torch.Tensor:
        batch = collate(self.head.kind, self.items, self.on.device)
        scores = head_scores(self.engine, self.head, batch, training=True)
        loss = row_losses(self.head.kind, scores, batch.ragged, batch.targets)
        penalty = self.engine.penalty()
        return loss if penalty is None else loss + penalty

    def run(self) -> None:
        for parameter in self.learns:
            parameter.grad = None
        self.loss().backward()

    def weights(self) -> Iterator[torch.Tensor]:
        yield from (*self.on.model.parameters(), *self.on.model.buffers(), *self.learns, *self.head.buffers())
        for part in self.engine.frozen:
            yield from part.parameters()


def fusion(on: Backbone, variant: str) -> FusionPart:
    members = [[frozen(random_part(Bottleneck(), on, seed))] for seed in (1, 2)]
    part = FusionPart("both", members, ("a", "b"), variant)
    return part.begun(on, torch.Generator(), torch.float32, 0.1)


# Kept for the backward pass, within 10 %


@pytest.mark.parametrize(
    ("method", "options", "lengths", "kind", "dropout"),
    [
        (LoRA(rank=8), Options(), RAGGED, "classify", True),
        (LoRA(rank=8), Options(), LONG, "tag", True),
        (LoRA(rank=8, dropout=0.1), Options(dtype="bf16"), LONG, "span", True),
        (LoRA(rank=2, sites=("query", "value")), Options(), RAGGED, "classify", False),
        (LoRA(rank=2, layers=(2,)), Options(), RAGGED, "classify", False),
        (LoRA(rank=2), CHECKPOINTED, LONG, "classify", True),
        (LoRA(rank=2, layers=(1, 2)), CHECKPOINTED, RAGGED, "tag", False),
        (LoRA(rank=2), Options(bits=4), LONG, "classify", False),
        (LoRA(rank=2), Options(dtype="bf16", bits=8, embeddings="cpu", checkpointing=True), LONG, "classify", True),
        (DoRA(rank=2), Options(), RAGGED, "classify", True),
        (DoRA(rank=2), Options(dtype="bf16", bits=4), LONG, "tag", False),
        (Bottleneck(), Options(), RAGGED, "classify", True),
        (Bottleneck(variant="double_seq_bn", dropout=0.1), Options(dtype="bf16"), LONG, "classify", True),
        (Bottleneck(variant="par_bn", layers=(1,)), Options(), LONG, "tag", False),
        (None, Options(), RAGGED, "span", True),
        (LoRA(rank=8), Options(), LONG, "classify", False),
        (LoRA(rank=2), Options(), LONG, "mask", True),
        (LoRA(rank=2), Options(dtype="bf16", bits=4), RAGGED, "mask", False),
    ],
)
def test_what_is_kept_is_as_predicted(
    method: Any, options: Options, lengths: Sequence[int], kind: str, dropout: bool, tiny_xlmr: Path, still: Path,
    measures: ModuleType,
) -> None:  # fmt: skip
    step = Step(tiny_xlmr if dropout else still, method, options, lengths, kind)
    real = measures.saved_bytes(step.loss, step.weights())
    assert step.cost.kept == pytest.approx(real, rel=0.1) and real > 0


@pytest.mark.parametrize("variant", ["lowrank", "adapterfusion"])
def test_what_a_fusion_and_parts_below_keep_is_as_predicted(
    variant: str, tiny_xlmr: Path, on: Backbone, measures: ModuleType
) -> None:
    below = [frozen(random_part(Bottleneck(), on)), fusion(on, variant), frozen(random_part(LoRA(rank=2), on, 3))]
    step = Step(tiny_xlmr, LoRA(rank=2, sites=("ffn_up",)), Options(), RAGGED, below=below)
    assert step.cost.kept == pytest.approx(measures.saved_bytes(step.loss, step.weights()), rel=0.1)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers as wide as XLM-R base."""
    sizes = {"hidden_size": 768, "num_hidden_layers": 2, "num_attention_heads": 12, "intermediate_size": 3072}
    return make_tiny_xlmr(tmp_path_factory.mktemp("backbones") / "wide", sizes)


@pytest.mark.parametrize(
    ("method", "options"),
    [(LoRA(rank=8), Options()), (Bottleneck(), Options(dtype="bf16", bits=4)), (LoRA(rank=8), CHECKPOINTED)],
)
def test_at_the_width_of_xlmr_base_bytes_kept_and_peak_are_as_predicted(
    method: Any, options: Options, wide: Path, measures: ModuleType
) -> None:
    step = Step(wide, method, options, (60, 31, 60, 12))
    assert step.cost.kept == pytest.approx(measures.saved_bytes(step.loss, step.weights()), rel=0.1)
    step.run()  # what is made once
    for parameter in step.learns:
        parameter.grad = None
    peak = measures.peak_bytes(lambda: step.loss().backward(), step.on.device)
    if not options.bits:  # the library's CPU kernels take more for themselves
        assert step.cost.kept + step.cost.temporary == pytest.approx(peak, rel=0.1)


# What stays: weights and what learns


@pytest.mark.parametrize("which", ["tiny_xlmr", "tiny_bert"])
@pytest.mark.parametrize("options", [Options(), Options("bf16"), Options(bits=8), Options("bf16", 4, "cpu")])
def test_weights_are_counted_to_the_byte(which: str, options: Options, request: pytest.FixtureRequest) -> None:
    step = Step(request.getfixturevalue(which), LoRA(rank=2), options, (3,))
    cost, model = step.cost, step.on.model
    real = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    assert cost.matrices + cost.embeddings + cost.rest == real
    assert cost.embeddings == model.embeddings.word_embeddings.weight.nbytes
    assert cost.trained == 3 * sum(p.nbytes for p in step.learns)  # and two moments
    assert options_of(step.on) == options


def test_accumulation_and_a_best_state_are_counted(tiny_xlmr: Path) -> None:
    step = Step(tiny_xlmr, LoRA(rank=2), Options(), (3,))
    parts = ([], step.engine.new, [(step.head, step.items)])
    numbers = sum(p.nbytes for p in step.learns)
    assert step_cost(step.on, Options(accumulation=2), *parts, copies=1).trained == 5 * numbers


def test_of_several_tasks_the_costliest_batch_counts_and_the_weights_of_all_heads(tiny_xlmr: Path) -> None:
    step = Step(tiny_xlmr, LoRA(rank=2), Options(), (30, 30))
    other, few = make_head("tag", step.on, ("x", "y")), items_of("tag", (3,), step.on)
    both = step_cost(step.on, Options(), [], step.engine.new, [(other, few), (step.head, step.items)])
    assert both.kept == step.cost.kept
    assert both.trained == step.cost.trained + 3 * sum(p.nbytes for p in other.parameters())


def test_a_plan_reads_no_weights_and_changes_none(tiny_xlmr: Path) -> None:
    on = Backbone(tiny_xlmr, device="cpu", load=False)
    part = random_part(LoRA(rank=2), on)
    before = part.digest()
    fused = torch.nn.functional.scaled_dot_product_attention
    batches = [(make_head("tag", on, ("x", "y")), items_of("tag", (5, 3), on))]
    step_cost(on, Options(checkpointing=True), [], part, batches)
    assert not on.loaded and part.digest() == before and on.options() == {}
    assert torch.nn.functional.scaled_dot_product_attention is fused


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA GPU")
@pytest.mark.parametrize("method", [LoRA(rank=8), Bottleneck()])
@pytest.mark.parametrize(
    "options", [Options(), CHECKPOINTED, Options("bf16"), Options("bf16", 4, "cpu", True), Options("bf16", 8)]
)
def test_the_peak_on_cuda_is_as_predicted(method: Any, options: Options, wide: Path, measures: ModuleType) -> None:
    step = Step(wide, method, options, (200, 96, 96, 31) * 8, device="cuda")
    step.run()  # kernels' workspaces are made once
    for parameter in step.learns:
        parameter.grad = None
    peak = measures.peak_bytes(lambda: step.loss().backward(), step.on.device)
    assert step.cost.kept + step.cost.temporary == pytest.approx(peak, rel=0.1)
