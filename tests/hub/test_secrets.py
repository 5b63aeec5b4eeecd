"""The token that a push and a pull send to the hub is in nothing that they write, send as content or say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hub_server import TOKEN, Fault, Hub

from adapterxl.cli import main
from adapterxl.hub import write_card


def test_no_card_module_or_message_of_push_and_pull_holds_the_token(
    hub: Hub, own_cache: Path, saved: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = saved("lora")
    write_card(folder, licence="mit")
    assert main(["push", str(folder), "someone/pos", "--licence", "mit"]) == 0
    assert main(["pull", "someone/pos", "--out", str(tmp_path / "back")]) == 0
    hub.faults = [Fault("someone", lambda handler, *_: handler.reply(403, b"{}", {}))]
    assert main(["pull", "someone/other", "--out", str(tmp_path / "other")]) == 1
    assert any(TOKEN in headers.get("authorization", "") for _, _, headers in hub.requests), "the token was sent"
    sent = {
        name: data for there in hub.repositories.values() for c in there.commits.values() for name, data in c.items()
    }
    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert "README.md" in sent and folder / "README.md" in written and tmp_path / "back/adapterxl.json" in written
    assert not [name for name, data in (sent | written).items() if TOKEN.encode() in data]
    said = capfd.readouterr()
    assert "403" in said.err and TOKEN not in said.out + said.err
