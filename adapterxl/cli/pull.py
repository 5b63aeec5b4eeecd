"""`adapterxl pull`: fetch a module from a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterxl.cli import hub as shared
from adapterxl.cli import options as opt


def pull(
    repo: Annotated[str, typer.Argument(metavar="REPO", help="A module on the hub: someone/name.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make.")],
    hub: shared.Hub = None,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="REV", show_default="main", help="A branch, tag or commit.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Only what was fetched before; as HF_HUB_OFFLINE=1.")
    ] = False,
    update: Annotated[
        bool, typer.Option("--update", help="Take what the revision points to now, not what it did at first use.")
    ] = False,
    lock: Annotated[
        Path | None,
        typer.Option(
            "--lock", metavar="FILE", show_default="in the cache", help="Where commits of first use are kept."
        ),
    ] = None,
    max_bytes: Annotated[int, typer.Option("--max-bytes", metavar="N", min=1, help="Largest module that is taken.")] = 2
    << 30,
    overwrite: opt.Overwrite = False,
    deadline: shared.Deadline = 600,
    timeout: shared.Timeout = 30,
    tries: shared.Tries = 5,
) -> None:
    """Fetch a module; the folder appears whole, with every byte compared with its digest, or not at all.

    The token is the one of HF_TOKEN or of `hf auth login`; HF_ENDPOINT names another hub.
    """
    from adapterxl.hub import pull as pulled

    done = pulled(repo, out, hub=hub, revision=revision, offline=offline, update=update, lock=lock,
                  max_bytes=max_bytes, overwrite=overwrite,
                  patience=shared.patience(deadline, timeout, tries))  # fmt: skip
    typer.echo(f"{out}: {repo}{f'@{done.commit}' if done.commit else ''}, {done.size:,} bytes, all digests compared")
