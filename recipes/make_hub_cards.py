"""Make `hub_cards/`: publishable folders of the miniature backbone, and of modules and compositions on it.

    python recipes/make_hub_cards.py --effect out/effect   # what recipes/miniature_effect.py has trained

Weights are those of one seed; the cards show the scores of all seeds, which stay in hub_cards/results. With --cards the
cards alone are drawn again, from what is in hub_cards.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from adapterxl import Backbone, TaskModule, compose, evaluate, load
from adapterxl.hub import write_backbone_card, write_card
from adapterxl.miniature import BACKBONE
from adapterxl.miniature.languages import LANGUAGES

ROOT = Path(__file__).resolve().parent.parent
CARDS = ROOT / "hub_cards"
FIGURES = ROOT / "docs" / "results" / "miniature_backbone.json"
BASE = "xlmr-miniature"
# Folder name -> module of the recipe or a composition of its modules, and the task that its card shows scores of. A
# composition has no head: retrieval needs none.
MODULES = {
    "mini-nli-lora": ("nli", "mini_xnli"),
    "mini-qa-lora": ("qa", "mini_xqa"),
    "mini-choice-lora": ("choice", "mini_choice"),
    "mini-pos-lora": ("pos", "mini_xpos"),
    "mini-ner-lora": ("ner", "mini_xner"),
    "mini-ner-bottleneck": ("ner_bn", "mini_xner"),
    "mini-nli-qa-merge": ("merge(nli, qa_nli)", "mini_bitext"),
    "mini-pos-ner-stack": ("stack(pos_bn, ner_bn)", "mini_bitext"),
    "mini-xnli-after-nli": ("xnli_nli", "mini_xnli"),
    "mini-xqa-after-qa": ("xqa_qa", "mini_xqa"),
    "mini-xner-after-fuse": ("xner_fuse", "mini_xner"),
}
LIMITS = (
    "It knows the words of a small artificial world and nothing else: it is made to learn and test adapterxl with.",
    "The world was built so that intermediate tasks help; nothing follows for real languages.",
)
ABOUT = (
    "Trained by `recipes/pretrain_miniature.py` of adapterxl: masked language modelling on stories of a world written "
    "by hand for the project, in six languages, half of the rows beside their translation, and on quizzes about them."
)


def main(
    effect: Annotated[
        Path | None, typer.Option("--effect", metavar="DIR", help="Results of the effect recipe.")
    ] = None,
    cards: Annotated[bool, typer.Option("--cards", help="Draw the cards again, nothing else.")] = False,
    only: Annotated[str | None, typer.Option(metavar="NAME", help="Make this folder alone; others stay.")] = None,
    seed: Annotated[int, typer.Option(help="The seed whose weights are published.")] = 11,
) -> None:
    """Copy the modules and their scores, and draw every card."""
    if (effect is None) != cards:
        raise SystemExit("error: give --effect DIR, or --cards to draw the cards alone.")
    if effect is not None:
        if only is not None and only not in MODULES:
            raise SystemExit(f"error: no module '{only}'; choose one of {', '.join(MODULES)}.")
        collect(effect, seed, MODULES if only is None else {only: MODULES[only]})
    draw(CARDS)


def collect(effect: Path, seed: int, modules: Mapping[str, tuple[str, str]]) -> None:
    """Write folders anew, without cards."""
    for folder in (
        (CARDS,) if modules == MODULES else [CARDS / under / name for name in modules for under in ("", "results")]
    ):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(BACKBONE, CARDS / BASE, dirs_exist_ok=True)
    on = Backbone()
    for name, (text, task) in modules.items():
        # Nothing is trained in a composition, so its scores have no seed: those of the one that is published.
        for run in sorted(effect.glob(f"seed{seed}" if "(" in text else "seed*")):
            made = _made(text, run)
            if run.name == f"seed{seed}":
                # Saved again rather than copied: logs and card belong to the run, not to the module.
                made.save(CARDS / name)
            # An intermediate module is scored on the target task of its kind: zero-shot in task and language.
            source = made.task if made.task not in ("", task) else None
            scores = evaluate(made, on=on, task=task, train_from=source, center=task == "mini_bitext")
            kept = CARDS / "results" / name / f"{run.name}.{task}.json"
            scores.save(kept)
            found = json.loads(kept.read_text(encoding="utf-8"))
            found["module"]["path"] = None  # a folder of the machine that it was made on
            kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _made(text: str, run: Path) -> TaskModule:
    """A module of a run, or what an operator makes of several."""
    operator, _, members = text.rstrip(")").partition("(")
    if not members:
        return load(run / text)
    folders = ", ".join(f'"{run / member.strip()}"' for member in members.split(","))
    return compose(f"{operator}({folders})")


def draw(folder: Path) -> None:
    """Draw every card from what is in `folder`."""
    results = json.loads(FIGURES.read_text(encoding="utf-8"))["rows"]
    write_backbone_card(
        folder / BASE,
        languages=list(LANGUAGES),
        results=results,
        about=ABOUT,
        name=BASE,
        licence="apache-2.0",
        limits=LIMITS,
    )
    for name in MODULES:
        scores = sorted((folder / "results" / name).glob("*.json"))
        write_card(folder / name, scores, licence="apache-2.0", limits=LIMITS)


if __name__ == "__main__":
    typer.run(main)
