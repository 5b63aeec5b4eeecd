"""`adapterxl push`: publish a module folder on a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterxl.cli import hub as shared


def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A module folder.")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="Where to: someone/name.")],
    hub: shared.Hub = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository for its owners alone.")] = False,
    revision: Annotated[
        str | None,
        typer.Option("--revision", "--branch", metavar="BRANCH", show_default="main", help="Branch to push to."),
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", metavar="TEXT", show_default="name and lineage", help="Of the commit.")
    ] = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option(
            "--scores", metavar="FILE", help="Scores for the card, which is then drawn anew; repeat for more."
        ),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", metavar="NAME", help="For the card, such as apache-2.0.")
    ] = None,
    base: Annotated[
        str | None, typer.Option("--base", metavar="ID", help="For the card: hub id of a backbone that has none here.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, and send nothing.")] = False,
    deadline: shared.Deadline = 600,
    timeout: shared.Timeout = 30,
    tries: shared.Tries = 5,
) -> None:
    """Check a module folder and publish it, with a complete card, as one commit.

    The token is the one of HF_TOKEN or of `hf auth login`; HF_ENDPOINT names another hub.
    """
    from adapterxl.hub import push as pushed

    done = pushed(folder, repo, hub=hub, private=private, revision=revision, message=message, scores=scores or (),
                  licence=licence, base=base, dry_run=dry_run,
                  patience=shared.patience(deadline, timeout, tries))  # fmt: skip
    verbs = ("would send", "would delete") if dry_run else ("sent", "deleted")
    for verb, names in zip(verbs, (done.changed, done.removed), strict=True):
        for name in names:
            typer.echo(f"{verb} {name}")
    typer.echo(f"{'' if done.changed or done.removed else 'nothing has changed: '}{done.url}")
