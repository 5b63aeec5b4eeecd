"""The log of a training: a JSON line for every step that is looked at, which no full disk or crash leaves torn."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..console import say


class Log:
    """Lines of a file. Those that cannot be written wait until the next can."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[str] = []

    def write(self, line: Mapping[str, Any]) -> None:
        self._waiting.append(json.dumps(line) + "\n")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as stream:
                size, content = stream.tell(), "".join(self._waiting).encode()
                try:
                    if stream.write(content) != len(content):
                        raise OSError("the disk took a part of it only")
                except OSError:
                    stream.truncate(size)
                    raise
            self._waiting.clear()
        except OSError as error:
            if len(self._waiting) == 1:
                say([f"{self.path}: cannot be written ({error.strerror or error}); the training goes on, lines wait."])

    def cut(self, step: int) -> None:
        """Drop the lines after a step that a run goes on from; they are going to be written again."""
        if not self.path.is_file():
            return
        whole = 0
        for line in self.path.read_bytes().splitlines(keepends=True):
            try:
                if not line.endswith(b"\n") or not 0 < json.loads(line)["step"] <= step:
                    break
            except (ValueError, KeyError, TypeError):  # torn by a crash, so after the last checkpoint
                break
            whole += len(line)
        os.truncate(self.path, whole)
