"""What is pushed and pulled meets software of others: peft and adapters load it, a mirror server passes it on.

olah is a third-party mirror of the hub. It needs an environment of its own: ADAPTERXL_OLAH names its `olah-cli`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hub_server import TOKEN, Hub
from huggingface_hub import constants
from layouts import parts_of
from samples import LABELS, make_module, rows, scores

from adapterxl.backbone import Backbone
from adapterxl.hub import Patience, pull, push

PATIENT = Patience(deadline=120, timeout=60, attempts=3, backoff=0.5)
OLAH = os.environ.get("ADAPTERXL_OLAH") or shutil.which("olah-cli")

# In a process that cannot import adapterxl: what peft and adapters answer for folders, and for ids on the hub.
_VANILLA = """
import json, sys
sys.modules["adapterxl"] = None  # an import of it would raise
import numpy as np, torch
from adapters import AutoAdapterModel
from peft import PeftModel
from transformers import AutoModelForTokenClassification
job = json.load(open(sys.argv[1]))
ids, mask = torch.tensor(job["ids"]), torch.tensor(job["mask"])
found = {}
for where, place in job["peft"].items():
    model = AutoModelForTokenClassification.from_pretrained(job["base"], num_labels=job["labels"])
    model = PeftModel.from_pretrained(model, place).eval()
    with torch.no_grad():
        found["peft " + where] = model(input_ids=ids, attention_mask=mask).logits.numpy()
for where, place in job["adapters"].items():
    model = AutoAdapterModel.from_pretrained(job["base"])
    source = {"source": "hf"} if where == "hub" else {}
    model.set_active_adapters(model.load_adapter(place, use_safetensors=True, **source))
    with torch.no_grad():
        found["adapters " + where] = model.eval()(input_ids=ids, attention_mask=mask).logits.numpy()
np.savez(sys.argv[2], **found)
"""


@pytest.mark.slow
def test_peft_and_adapters_load_what_was_pulled_and_load_it_from_the_hub_themselves(
    hub: Hub, xlmr: Backbone, tmp_path: Path
) -> None:
    tokens = rows(xlmr)
    longest = max(map(len, tokens))
    ids = [[*row, *([xlmr.tokenizer.pad_token_id] * (longest - len(row)))] for row in tokens]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in tokens]
    job = {"base": str(xlmr.folder), "labels": len(LABELS), "ids": ids, "mask": mask}
    expected = {}
    for library, layout in (("peft", "lora-sequence"), ("adapters", "bottleneck")):
        module = make_module(xlmr, library, parts_of(layout, xlmr), "tag", labels=LABELS)
        module.save(tmp_path / layout)
        repo = f"someone/{library}"
        push(tmp_path / layout, repo, patience=PATIENT)
        pull(repo, tmp_path / library, patience=PATIENT)
        job[library] = {"folder": str(tmp_path / library), "hub": repo}
        expected[library] = scores(xlmr, module, tokens).double().numpy()
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
    environment = os.environ | {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
                                "HF_HOME": str(tmp_path / "home")}  # fmt: skip
    places = [str(tmp_path / "job.json"), str(tmp_path / "found.npz")]
    command = [sys.executable, "-c", _VANILLA, *places]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    with np.load(places[1]) as found:
        assert set(found) == {"peft folder", "peft hub", "adapters folder", "adapters hub"}
        for name, answers in found.items():
            ours = expected[name.split()[0]]
            assert np.abs(answers[np.array(mask, dtype=bool)] - ours).max() <= 1e-4, name
    assert hub.asked("GET /lfs/") >= 2


@contextmanager
def olah(upstream: str, folder: Path, offline: bool) -> Iterator[str]:
    """The mirror server, in front of `upstream`; its address. It also serves the git repositories in `mirrors`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "olah.toml").write_text(
        f"""
[basic]
host = "127.0.0.1"
port = {address.split(":")[1]}
repos-path = "{folder / "kept"}"
hf-scheme = "http"
hf-netloc = "{upstream}"
hf-lfs-netloc = "{upstream}"
mirror-scheme = "http"
mirror-netloc = "{address}"
mirror-lfs-netloc = "{address}"
mirrors-path = ["{folder / "mirrors"}"]
[accessibility]
offline = {str(offline).lower()}
""",
        encoding="utf-8",
    )
    with (folder / "olah.log").open("wb") as log:
        command = [str(OLAH), "-c", str(folder / "olah.toml")]
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=os.environ | {"HF_TOKEN": ""})
        try:
            for _ in range(600):
                assert server.poll() is None, (folder / "olah.log").read_text("utf-8")[-500:]
                try:
                    socket.create_connection(("127.0.0.1", int(address.split(":")[1])), 1).close()
                    break
                except OSError:
                    subprocess.run(["sleep", "0.1"], check=True)
            yield f"http://{address}"
        finally:
            server.terminate()
            server.wait(30)


needs_olah = pytest.mark.skipif(OLAH is None, reason="no olah-cli: pip install olah elsewhere, and set ADAPTERXL_OLAH")


@pytest.mark.slow
@needs_olah
def test_pull_reads_through_a_mirror_server_of_others(
    hub: Hub, saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved("lora-sequence")
    commit = push(folder, "someone/pos", patience=PATIENT).commit
    before = len(hub.requests)
    with olah(hub.address.removeprefix("http://"), tmp_path, offline=False) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        done = pull("someone/pos", tmp_path / "back", patience=PATIENT)
    assert done.commit == commit and len(hub.requests) > before
    for path in folder.iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()
    assert not any(TOKEN in path.read_text("utf-8", "replace") for path in tmp_path.glob("*.log"))


@pytest.mark.slow
@needs_olah
@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_pull_reads_a_git_repository_that_a_server_of_others_serves(
    hub: Hub, saved: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, place = saved("stack"), tmp_path / "mirrors" / "models" / "someone" / "pos"
    shutil.copytree(folder, place)
    who = {f"GIT_{role}_{what}": "x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", *words], cwd=place, check=True, env=os.environ | who)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=place, check=True, capture_output=True, text=True)
    with olah("127.0.0.1:9", tmp_path, offline=True) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        done = pull("someone/pos", tmp_path / "back", patience=PATIENT)
    assert done.commit == head.stdout.strip()
    for path in folder.rglob("*"):
        if path.is_file():
            assert (tmp_path / "back" / path.relative_to(folder)).read_bytes() == path.read_bytes()
