"""Translate-train: training rows that the data source says are machine translations of the English ones."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from adapterxl.data.augment.base import Augmentation, Ready
from adapterxl.data.resolve import DataLike


class Translated(Augmentation):
    """Adds the training rows in other languages that are marked as machine translated, beside the English ones.

    `--train-languages en,de` reads the same rows; this operator refuses rows that are not marked. Either way the
    lineage names it.

    Attributes:
        languages: Whose rows are added.

    Source: the translate-train setting of XNLI, Conneau et al. 2018, https://aclanthology.org/D18-1269.
    """

    name: ClassVar[str] = "translated"
    summary: ClassVar[str] = "machine-translated training rows beside the English ones (translate-train)"
    source: ClassVar[str] = "Conneau et al. 2018, https://aclanthology.org/D18-1269"

    languages: tuple[str, ...] = Field(min_length=1)

    @property
    def adds(self) -> tuple[str, ...]:
        return self.languages

    def begin(self, data: DataLike) -> Ready | None:
        """Nothing to read: the rows come with those of the task."""
        return None


AUGMENTATION = Translated
