"""Every byte of an artifact counts: whichever is changed, and wherever it is cut, the folder is refused.

The files are in memory, and go through the very checks that a folder goes through; a few also through the disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from samples import make_module, make_part

from adapterxl.artifacts import load, store
from adapterxl.artifacts.check import check_files
from adapterxl.backbone import Backbone
from adapterxl.errors import ArtifactError
from adapterxl.modules import LoRA

BITS = (0x01, 0x20, 0x80)


@pytest.fixture(scope="module")
def folder(xlmr: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    part = make_part(LoRA(rank=3, sites=("query", "value")), "small", xlmr, 1)
    return make_module(xlmr, "small", [part], "tag").save(tmp_path_factory.mktemp("m") / "m").path or Path()


@pytest.fixture(scope="module")
def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def check(files: dict[str, bytes]) -> None:
    def read(name: str, most: int, size: int) -> bytes:
        if len(files[name]) != size:
            raise ArtifactError(f"{name}: found {len(files[name])} bytes, expected {size}.")
        return files[name]

    check_files(files[store.MANIFEST], files.keys() - {store.MANIFEST}, read, Path("m"))


def changed(files: dict[str, bytes], step: int) -> Iterator[tuple[str, int, bytes]]:
    """Name, place, and content with one byte changed there, or cut there."""
    for name, data in files.items():
        for place in range(0, len(data), step):
            bit = BITS[place % len(BITS)]
            yield name, place, data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]
            yield name, place, data[:place]


def refused(files: dict[str, bytes], step: int) -> int:
    check(files)
    count = 0
    for name, place, content in changed(files, step):
        with pytest.raises(ArtifactError) as caught:
            check({**files, name: content})
        assert "\n" not in str(caught.value), (name, place)
        count += 1
    return count


def test_the_artifact_is_of_about_ten_kilobytes(files: dict[str, bytes]) -> None:
    assert 9_000 < sum(map(len, files.values())) < 20_000


def test_bytes_all_over_the_artifact_are_changed_and_cut(files: dict[str, bytes]) -> None:
    assert refused(files, 29) > 500


@pytest.mark.slow
def test_every_single_byte_is_changed_and_every_length_is_cut(files: dict[str, bytes]) -> None:
    assert refused(files, 1) == 2 * sum(map(len, files.values()))


def test_a_folder_on_disk_is_refused_alike(folder: Path, files: dict[str, bytes]) -> None:
    load(folder)
    for name, place, content in changed(files, 1_999):
        (folder / name).write_bytes(content)
        with pytest.raises(ArtifactError) as caught:
            load(folder)
        assert str(folder / name) in str(caught.value), place
        (folder / name).write_bytes(files[name])
    load(folder)
