"""Masked tokens: which tokens of a row a language model is asked for, and what it sees in their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError

if TYPE_CHECKING:
    from .prepare import Item

SHARE = 0.15  # of a row's tokens; at least one is asked for
MASKED, RANDOM = 0.8, 0.1  # of those; the rest stay as they are


class Masking:
    """Draws masks as BERT does (Devlin et al. 2019, section 3.1): 15 % of the tokens, without special and unknown ones;
    of these 80 % become the mask token, 10 % a random one, and 10 % stay. Their number follows from a row's length.

    Args:
        tokenizer: A fast tokenizer of transformers.

    Raises:
        UsageError: If it has no mask token.
    """

    def __init__(self, tokenizer: Any) -> None:
        if tokenizer.mask_token_id is None:
            raise UsageError("Masked language modelling needs a mask token, which this backbone's tokenizer has not.")
        self.mask = int(tokenizer.mask_token_id)
        self.special = np.array(tokenizer.all_special_ids)
        self.words = np.setdiff1d(np.arange(len(tokenizer)), self.special)

    def draw(self, row: Sequence[int], generator: np.random.Generator) -> tuple[list[int], list[int], list[int]] | None:
        """A row with some tokens masked, their places, and the tokens that were there. None where there is no token to
        ask for."""
        ids = np.array(row)
        places = np.flatnonzero(~np.isin(ids, self.special))
        if not len(places):
            return None
        count = max(1, round(SHARE * len(places)))
        chosen = np.sort(generator.choice(places, count, replace=False))
        target, fate = ids[chosen], generator.random(count)
        seen = np.where(fate < MASKED + RANDOM, generator.choice(self.words, count), target)
        ids[chosen] = np.where(fate < MASKED, self.mask, seen)
        return ids.tolist(), chosen.tolist(), target.tolist()

    def again(self, items: Sequence[Item], draw: Sequence[int]) -> list[Item]:
        """The same rows with other masks.

        Args:
            draw: What the masks are drawn by, such as seed and number of a batch.
        """
        generator = np.random.default_rng(draw)
        fresh = []
        for item in items:
            drawn = self.draw(unmasked(item), generator)
            assert drawn is not None  # an item has tokens to ask for
            fresh.append(replace(item, rows=[drawn[0]], positions=drawn[1], target=drawn[2]))
        return fresh


def unmasked(item: Item) -> list[int]:
    """The tokens of a masked row as they were."""
    row = list(item.rows[0])
    for place, token in zip(item.positions or (), item.target, strict=True):
        row[place] = token
    return row
