"""The packed encoder gives Hugging Face's hidden states: every layer, every length, every precision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import transformers
from tiny import backbone, distance, random_rows
from torch import Tensor

from adapterxl.backbone import Backbone
from adapterxl.engines.encoder import encode
from adapterxl.ragged import pack

# One token to the most a row may have, with neighbours of equal length and of very different ones.
LENGTHS = (7, 1, 512, 2, 40, 1, 129, 7, 3)
# Largest difference relative to the layer's root mean square.
TOLERANCE = {"fp64": 1e-10, "fp32": 1e-5}


@pytest.fixture(params=["tiny_xlmr", "tiny_bert"])
def folder(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def packed_states(on: Backbone, rows: list[list[int]], types: list[list[int]] | None = None) -> list[list[Tensor]]:
    """Hidden states of each layer (embeddings first), one tensor for each row in the caller's order."""
    batch = pack(rows, types)
    states = encode(on, batch, [()], keep_all=True)
    places = [slice(start, start + len(row)) for start, row in zip(batch.starts, rows, strict=True)]
    return [[state[place] for place in places] for state in states]


def stock_states(
    folder: Path, dtype: torch.dtype, rows: list[list[int]], types: list[list[int]] | None = None
) -> list[list[Tensor]]:
    """The same from the stock model with its plain attention, on a batch that is padded here."""
    model = transformers.AutoModel.from_pretrained(
        folder, add_pooling_layer=False, torch_dtype=dtype, attn_implementation="eager"
    ).eval()
    longest = max(map(len, rows))

    def padded(values: Sequence[list[int]], fill: int) -> Tensor:
        return torch.tensor([value + [fill] * (longest - len(value)) for value in values])

    with torch.no_grad():
        states = model(
            input_ids=padded(rows, model.config.pad_token_id),
            attention_mask=padded([[1] * len(row) for row in rows], 0),
            token_type_ids=None if types is None else padded(types, 0),
            output_hidden_states=True,
        ).hidden_states
    return [[state[i, : len(row)] for i, row in enumerate(rows)] for state in states]


@pytest.mark.parametrize("dtype", ["fp64", "fp32"])
def test_every_layer_equals_hugging_face(folder: Path, dtype: str):
    on = backbone(folder, dtype)
    rows = random_rows(LENGTHS, on)
    found, expected = packed_states(on, rows), stock_states(folder, on.dtype, rows)
    assert len(found) == len(expected) == on.layers + 1
    for layer, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert distance(torch.cat(ours), torch.cat(theirs)) < TOLERANCE[dtype], f"layer {layer}"


def test_bf16_is_as_near_to_the_exact_states_as_hugging_face_is(folder: Path):
    on = backbone(folder, "bf16")
    rows = random_rows(LENGTHS, on)
    found, stock = packed_states(on, rows), stock_states(folder, torch.bfloat16, rows)
    exact = stock_states(folder, torch.float64, rows)
    for layer in range(on.layers + 1):
        reference = torch.cat(exact[layer])
        ours, theirs = (
            float((torch.cat(states[layer]).double() - reference).square().mean().sqrt()) for states in (found, stock)
        )
        size = float(reference.square().mean().sqrt())
        assert torch.cat(found[layer]).dtype == torch.bfloat16
        # bf16 keeps 8 bits; each layer rounds some ten times, and random roundings add up as their squares.
        assert ours < 2**-8 * size * (2 + 3 * layer) and ours < 1.25 * theirs, f"layer {layer}"


@pytest.mark.parametrize("dtype", ["fp64", "fp32"])
def test_token_types_of_pairs_reach_bert(tiny_bert: Path, dtype: str):
    on = backbone(tiny_bert, dtype)
    rows = random_rows((9, 2, 30, 9), on)
    types = [[int(i > len(row) // 2) for i in range(len(row))] for row in rows]
    found = packed_states(on, rows, types)
    for layer, (ours, theirs) in enumerate(zip(found, stock_states(tiny_bert, on.dtype, rows, types), strict=True)):
        assert distance(torch.cat(ours), torch.cat(theirs)) < TOLERANCE[dtype], f"layer {layer}"
    assert distance(torch.cat(found[-1]), torch.cat(packed_states(on, rows)[-1])) > 0.1


def test_text_from_the_tokenizer_gives_hugging_faces_states(folder: Path):
    on = backbone(folder)
    encoded = on.tokenizer(
        ["The dog reads.", "Wer hat die Katze?", "x"], ["El gato duerme en la casa.", "Nobody", "y"],
        return_token_type_ids=True,
    )  # fmt: skip
    rows, types = encoded["input_ids"], encoded["token_type_ids"]
    if not on.uses_token_types:
        types = None
    found, expected = packed_states(on, rows, types)[-1], stock_states(folder, on.dtype, rows, types)[-1]
    assert distance(torch.cat(found), torch.cat(expected)) < 1e-10


def test_stopping_early_gives_the_state_of_that_layer(folder: Path):
    on = backbone(folder)
    batch = pack(random_rows((4, 11), on))
    states = encode(on, batch, [()], keep_all=True)
    for layer in range(on.layers + 1):
        assert torch.equal(encode(on, batch, [()], upto=layer), states[layer])


def test_a_plan_that_does_not_fit_the_groups_is_refused(folder: Path):
    on = backbone(folder)
    rows = random_rows((4, 5), on)
    with pytest.raises(ValueError, match="2 groups, the plan 1"):
        encode(on, pack(rows, groups=[0, 1]), [()])


@pytest.mark.shared
@pytest.mark.parametrize("dtype", ["fp64", "fp32"])
def test_every_layer_of_a_trained_xlmr_equals_hugging_face(shared: Path, dtype: str):
    folder = shared / "models/xlmr-mini"
    on = backbone(folder, dtype)
    rows = random_rows((1, 512, 33, 33, 2), on)
    expected = stock_states(folder, on.dtype, rows)
    for layer, (ours, theirs) in enumerate(zip(packed_states(on, rows), expected, strict=True)):
        assert distance(torch.cat(ours), torch.cat(theirs)) < TOLERANCE[dtype], f"layer {layer}"
