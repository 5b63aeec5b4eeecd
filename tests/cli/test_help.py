"""Help is quick and true: no torch, every verb, and the defaults that really apply."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import typer

from adapterxl.cli import app, main

VERBS = ("list", "train", "compose", "evaluate", "report", "run", "demo", "inspect", "verify", "push", "pull", "search",
         "lexicon", "import", "convert")  # fmt: skip


def options(verb: str) -> dict[str, object]:
    command = typer.main.get_command(app).commands[verb]  # type: ignore[attr-defined]
    return {parameter.name: parameter for parameter in command.params}


def test_help_of_every_verb_works_without_importing_torch():
    code = (
        "import sys; from adapterxl.cli import main\n"
        f"codes = [main([*verb, '--help']) for verb in [[], *([v] for v in {VERBS})]]\n"
        "print(codes, [m for m in ('torch', 'transformers', 'adapters', 'peft', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == f"{[0] * (len(VERBS) + 1)} []"
    assert "Traceback" not in done.stderr


def test_the_verbs_are_these():
    assert tuple(typer.main.get_command(app).commands) == VERBS  # type: ignore[attr-defined]


def test_no_arguments_print_the_help(capsys):
    assert main([]) == 0
    assert "evaluate" in capsys.readouterr().out


def test_the_defaults_that_help_shows_are_those_of_the_settings():
    from adapterxl.training.settings import Settings

    shown = options("train")
    for name in ("epochs", "batch_size", "seed", "weight_decay", "warmup", "accumulation"):
        default = getattr(Settings(), name)
        assert float(shown[name].show_default) == default, name  # type: ignore[attr-defined]


def test_the_defaults_that_help_shows_are_those_of_the_induction():
    from adapterxl.data.align import Induction

    for name, default in vars(Induction()).items():
        assert float(options("lexicon")[name].show_default) == default, name  # type: ignore[attr-defined]


def test_the_defaults_that_help_shows_are_those_of_the_methods():
    from adapterxl.modules import SITES, VARIANTS, Bottleneck, LoRA

    shown = options("train")
    lora, bottleneck = LoRA(), Bottleneck()
    assert shown["rank"].show_default == str(lora.rank)  # type: ignore[attr-defined]
    assert float(shown["dropout"].show_default) == lora.dropout == bottleneck.dropout  # type: ignore[attr-defined]
    assert set(lora.sites) == set(SITES) == set(shown["sites"].help.split(": ")[1].rstrip(".").split(", "))  # type: ignore[attr-defined]
    assert shown["variant"].show_default == bottleneck.variant  # type: ignore[attr-defined]
    assert shown["reduction"].show_default == "16; par_bn: 2"  # type: ignore[attr-defined]
    assert (VARIANTS["seq_bn"].reduction, VARIANTS["par_bn"].reduction) == (16, 2)


def test_every_option_of_a_method_can_be_given():
    from adapterxl.modules import METHODS
    from adapterxl.recipes.method import METHOD_OPTIONS

    fields = {name: {field.name for field in dataclasses.fields(method)} for name, method in METHODS.items()}
    assert {name: set(keys) for name, keys in METHOD_OPTIONS.items()} == fields | {"none": set()}


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("tasks", ("udpos", "mnli", "tatoeba", "anli_plus", "snli + mnli + anli;", "10 languages; on squad; squad,")),
        ("methods", ("lora", "bottleneck", "none")),
        ("operators", ("merge", "stack")),
        ("augmentations", ("codeswitch", "translated", "ratio, languages, lexicon,")),
    ],
)
def test_list_names_what_there_is(what, expected, capsys):
    assert main(["list", what]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert all(part in said for part in expected)
