"""The command line: one file a verb. Nothing here imports torch before a command really runs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import typer

from adapterxl import __version__
from adapterxl.cli.compose import compose
from adapterxl.cli.demo import demo
from adapterxl.cli.evaluate import evaluate
from adapterxl.cli.foreign import convert, import_folder
from adapterxl.cli.inspect import inspect
from adapterxl.cli.lexicon import lexicon
from adapterxl.cli.listing import listing
from adapterxl.cli.pull import pull
from adapterxl.cli.push import push
from adapterxl.cli.report import report
from adapterxl.cli.run import run
from adapterxl.cli.search import search
from adapterxl.cli.train import train
from adapterxl.cli.verify import verify
from adapterxl.errors import AdapterXLError

app = typer.Typer(
    name="adapterxl",
    help="Train small modules on English tasks, compose them, and evaluate zero-shot in every language.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("list")(listing)
for verb in (train, compose, evaluate, report, run, demo, inspect, verify, push, pull, search, lexicon):
    app.command(verb.__name__)(verb)
app.command("import")(import_folder)  # a word that Python keeps for itself
app.command("convert")(convert)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"adapterxl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Train small modules on English tasks, compose them, and evaluate zero-shot in every language."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 bad input, 2 wrong usage, 130 interrupted,
    143 terminated.

    Every error that a user can mend is one line on stderr. Anything else is a defect of ours and keeps
    its traceback.
    """
    given = sys.argv[1:] if arguments is None else [*arguments]
    try:
        with _terminable():
            code = app(args=given or ["--help"], prog_name="adapterxl", standalone_mode=False)
    except AdapterXLError as error:
        return _fail(str(error), 1)
    except typer.TyperException as error:
        return _fail(error.format_message(), error.exit_code)
    except _Terminated:
        return _fail("terminated", 143)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    if code == 130:
        return _fail("interrupted", 130)
    return code if isinstance(code, int) else 0


class _Terminated(BaseException):
    """SIGTERM, as an exception, so that what is half done is cleared away."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM raise, as SIGINT does."""

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not in the main thread, where no signal arrives
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(message: str, code: int) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return code
