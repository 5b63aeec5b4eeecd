"""`verify --deep`: walk a module's parents by digest, and make again what operators made of them.

merge and stack, and the concatenation of ranks in the folder's root, are compared bit for bit; what other operators
compute (add, average, svd, ties, dare, prune) by delta W, as the last bits of an eigendecomposition differ between
machines. What a training made cannot be made again: its frozen parts are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..artifacts import TaskModule, load, read_manifest
from ..artifacts.encoding import encoded, tensor_entries
from ..artifacts.manifest import LineageEntry, Manifest, ParentEntry, module_digest
from ..artifacts.module import check_base
from ..artifacts.plan import plan
from ..artifacts.store import MANIFEST
from ..backbone import Backbone
from ..errors import AdapterXLError, ArtifactError
from ..modules import FusionPart, LoRAPart, Part
from .expression import OPERATORS

TOLERANCE = 1e-5  # of delta W's Frobenius norm, at each site; weights are kept in float32
_MOST_PARENTS = 1_000


def verify_deep(folder: str | Path, among: Sequence[str | Path] = (), on: Backbone | None = None) -> list[str]:
    """Check a module folder, all its ancestors, and that each composition is what its operator makes of its parents.

    Args:
        among: Folders of modules, or folders that hold some; by default those beside `folder`.
        on: The backbone; the magnitudes of a DoRA's vanilla file can be made again with it only.

    Returns:
        A line for each thing that was found to hold.

    Raises:
        ArtifactError: For the first thing that does not: a parent that is not there or was changed, by name, or
            weights that its parents do not give.
    """
    path = Path(folder)
    walk = _Walk(_known(among or [path.absolute().parent]), on)
    walk.module(load(path), read_manifest(path), path, ())
    return walk.lines


def _known(among: Sequence[str | Path]) -> dict[Path, Manifest]:
    """Module folders with their manifests; what is damaged is no parent."""
    folders = [Path(each) for each in among]
    found: dict[Path, Manifest] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ArtifactError(f"No folder '{folder}' to look for parents in.")
        for one in (folder, *sorted(folder.iterdir())):
            if (one / MANIFEST).is_file() and len(found) < _MOST_PARENTS:
                try:
                    found[one] = read_manifest(one)
                except ArtifactError:
                    continue
    return found


def _digest(manifest: Manifest) -> str:
    heads = {task: head.digest for task, head in manifest.heads.items()}
    head = None if manifest.head is None else manifest.head.digest
    return module_digest(manifest.base.fingerprint, [part.digest for part in manifest.parts], head, heads)


@dataclass
class _Walk:
    known: Mapping[Path, Manifest]
    on: Backbone | None
    lines: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def module(self, module: TaskModule, manifest: Manifest, path: Path, below: tuple[str, ...]) -> None:
        """A module that was read, and what it was made from; `below` names who asked for it."""
        digest = module.digest()
        if digest in self.seen:
            return
        self.seen.add(digest)
        if self.on is not None:
            check_base(module, self.on)
        self._root(module, manifest, path)
        if manifest.lineage is None:
            from_nothing = not manifest.composition and manifest.operator == "train"
            why = "was trained on the plain backbone" if from_nothing else "its parents are not recorded"
            self.lines.append(f"{path}: {why}")
            return
        members = self._members(manifest.lineage, module, path, (*below, manifest.name))
        self._compare(manifest.lineage, members, module.parts, path)

    def _root(self, module: TaskModule, manifest: Manifest, path: Path) -> None:
        """The folder's tensors, made again from the module's parts and head, bit for bit."""
        rescales = any(isinstance(part, LoRAPart) and part.rescales for part in _every(module.parts))
        if rescales and self.on is None:
            self.lines.append(f"{path}: a DoRA, whose vanilla weights are made again with --base only")
            return
        planned = plan(module, None if self.on is None else self.on.stored).files
        for name in sorted(planned):
            if manifest.format > 1 and name.endswith(".safetensors"):
                again = tensor_entries(encoded(planned[name]), name)
                odd = sorted(key for key, entry in manifest.tensors[name].items() if again.get(key) != entry)
                if odd:
                    raise ArtifactError(f"{path / name}: tensor {odd[0]}: its parts give another one.")
        self.lines.append(f"{path}: its weights are its parts', bit for bit")

    def _members(
        self, lineage: LineageEntry, child: TaskModule, path: Path, below: tuple[str, ...]
    ) -> list[TaskModule]:
        found = []
        for parent in lineage.parents:
            if parent.made is None:
                found.append(self._parent(parent, path, below))
                continue
            members = self._members(parent.made, child, path, below)
            parts = _made(parent.made, members, path)
            found.append(TaskModule(parent.made.operator, "", "", parts, None, child.base, parent.made.operator))
        return found

    def _parent(self, parent: ParentEntry, path: Path, below: tuple[str, ...]) -> TaskModule:
        assert parent.digest is not None
        at = next((at for at, one in self.known.items() if _digest(one) == parent.digest), None)
        told = f"{path}: its parent '{parent.name}' ({parent.digest[:12]})"
        of = f", an ancestor of '{below[0]}' by {' <- '.join(below)}" if len(below) > 1 else ""
        if at is None:
            named = [at for at, one in self.known.items() if one.name == parent.name]
            if named:
                other = _digest(self.known[named[0]])[:12]
                raise ArtifactError(f"{told}{of}, was changed: {named[0]} is {other} now.")
            raise ArtifactError(f"{told}{of}, is not here. Name a folder that holds it with --among.")
        try:
            module = load(at)
        except ArtifactError as error:
            raise ArtifactError(f"{told}{of}, is damaged: {error}") from error
        self.module(module, self.known[at], at, below)
        return module

    def _compare(self, lineage: LineageEntry, members: Sequence[TaskModule], parts: Sequence[Part], path: Path) -> None:
        """What became of the members, against what is there."""
        names = ", ".join(repr(one.name) for one in members)
        said = f"{path}: {lineage.operator} of {names}"
        trained = lineage.operator == "train"
        expected = [part for one in members for part in one.parts] if trained else _made(lineage, members, path)
        if len(parts) < len(expected) or (not trained and len(parts) != len(expected)):
            raise ArtifactError(f"{said} has {len(expected)} parts, found {len(parts)}.")
        exact = True
        for there, other in zip(parts, expected, strict=False):
            if (
                there.made_of is not None
                and isinstance(there, LoRAPart)
                and isinstance(other, LoRAPart)
                and not trained
            ):
                exact = exact and there.digest() == other.digest()
                _close(there, other, said)
            elif _frozen(there) != _frozen(other):
                raise ArtifactError(f"{said} gives another part '{other.name}' than the '{there.name}' in it.")
        how = "bit for bit" if exact else f"within {TOLERANCE:.0e} of delta W"
        self.lines.append(f"{said}: {'its frozen parts are theirs' if trained else 'made again, equal'} {how}")


def _frozen(part: Part) -> Any:
    """What no later training changes: of a fusion its members."""
    return part.settings() if isinstance(part, FusionPart) else part.digest()


def _made(lineage: LineageEntry, members: Sequence[TaskModule], path: Path) -> tuple[Part, ...]:
    """The parts that an operator makes of members."""
    operator = OPERATORS.get(lineage.operator)
    if operator is None:
        raise ArtifactError(f"{path / MANIFEST}: lineage.operator: found {lineage.operator!r}, which is no operator.")
    try:
        given = {name: tuple(v) if isinstance(v, list) else v for name, v in lineage.options.items()}
        options = dict(operator.settle(given, len(members)))
        for one in members:
            operator.check(one)
        return operator.combine(members, options).parts
    except AdapterXLError as error:
        raise ArtifactError(f"{path / MANIFEST}: lineage: {error}") from error


def _close(there: LoRAPart, other: LoRAPart, said: str) -> None:
    for key in sorted({*there.keys, *other.keys}):
        pair, again = there.factors(*key), other.factors(*key)
        if pair is None or again is None:
            raise ArtifactError(f"{said} acts at other places: layer {key[0]}, {key[1]}.")
        # |B A - B' A'| from the ranks side by side, without a matrix of outputs x inputs.
        a = torch.cat([pair[0], again[0]]).detach().double()
        b = torch.cat([pair[1], -again[1]], 1).detach().double()
        off = _norm(a, b) / (_norm(again[0].detach().double(), again[1].detach().double()) or 1.0)
        if off > TOLERANCE:
            raise ArtifactError(
                f"{said}: layer {key[0]}, {key[1]}: delta W differs by {off:.1e} of its norm from what its parents "
                f"give (allowed: {TOLERANCE:.0e})."
            )


def _norm(a: torch.Tensor, b: torch.Tensor) -> float:
    """Frobenius norm of b a."""
    return float(torch.linalg.matrix_norm(torch.linalg.qr(b)[1] @ torch.linalg.qr(a.T)[1].T))


def _every(parts: Sequence[Part]) -> list[Part]:
    inside = [one for part in parts if isinstance(part, FusionPart) for member in part.members for one in member]
    return [*parts, *inside]
