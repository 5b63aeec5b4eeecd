"""`adapterxl evaluate`: score a module or a composition in every language."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapterxl.cli import options as opt


def evaluate(
    module: Annotated[
        str,
        typer.Argument(metavar="DIR|EXPR|none", help="A module folder, a composition, or none: the backbone alone."),
    ],
    task: Annotated[
        str, typer.Option("--task", metavar="TASK[,TASK..]", help="What to score; several tasks in one pass.")
    ],
    base: opt.Base = None,
    data: opt.Data = None,
    lock: opt.Lock = None,
    accept_data: opt.AcceptData = False,
    languages: Annotated[
        str, typer.Option(metavar="all|xtreme|xtreme-r|en,de,..", help="Languages to score, or a benchmark's.")
    ] = "all",
    split: Annotated[
        str | None, typer.Option(metavar="dev|test", show_default="by task", help="Rows to score.")
    ] = None,
    train_from: opt.TrainFrom = None,
    head: Annotated[
        str | None, typer.Option(metavar="MEMBER", help="Of a composition: the member whose head answers.")
    ] = None,
    engine: opt.Engine = "packed",
    limit: Annotated[
        int | None, typer.Option(min=1, show_default="all", help="The first rows of each language only.")
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(
            min=0, show_default="7/12 of the layers", help="retrieval: hidden state that is pooled; 0: embeddings."
        ),
    ] = None,
    sweep_layers: Annotated[
        str | None,
        typer.Option(
            metavar="de,fr,..",
            show_default="none",
            help="retrieval: choose the layer on these languages; on rows that are not reported.",
        ),
    ] = None,
    pooling: Annotated[
        str, typer.Option(metavar="mean|cls", help="retrieval: the mean of a text's states, or its first token's.")
    ] = "mean",
    center: Annotated[
        bool, typer.Option("--center", help="retrieval: subtract each language's mean vector first.")
    ] = False,
    perturb: Annotated[
        str | None,
        typer.Option(
            metavar="characters[=0.1]|casing[=upper]",
            show_default="none",
            help="Score a perturbed copy of the input too, into FILE.perturbed.json.",
        ),
    ] = None,
    tokens_per_batch: Annotated[int, typer.Option(min=1, help="Tokens per batch.")] = 8192,
    merged: Annotated[
        bool,
        typer.Option(
            "--merged/--unmerged",
            help="Add LoRA to copies of the weights: faster, and takes their memory. Packed engine in fp32 only.",
        ),
    ] = True,
    dtype: opt.Dtype = "fp32",
    bits: opt.Bits = None,
    embeddings: opt.Embeddings = "device",
    device: opt.Device = "auto",
    on_bad_row: opt.OnBadRow = "stop",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE|DIR",
            show_default="scores.json, or scores",
            help="Scores, with predictions beside them; of several tasks a folder with TASK.json each.",
        ),
    ] = None,
    overwrite: opt.Overwrite = False,
) -> None:
    """Evaluate on every language of a task, without any training in them (zero-shot)."""
    opt.one_of("--engine", engine, opt.ENGINES)
    opt.one_of("--pooling", pooling, ("mean", "cls"))
    if perturb is not None:
        from adapterxl.data.perturb import Perturbation

        Perturbation.parse(perturb)
    dev = opt.names("--sweep-layers", sweep_layers)
    wanted = opt.languages_of(languages)
    tasks = list(opt.names("--task", task) or ())
    out = out or Path("scores.json" if len(tasks) == 1 else "scores")
    source = opt.data_source(data, lock, accept_data)
    backbone = opt.backbone(base, dtype, device, bits=bits, embeddings=embeddings)

    from adapterxl.evaluation import evaluate as evaluated
    from adapterxl.evaluation.scores import Scores
    from adapterxl.report import to_table

    results: list[Scores] = []
    beside = out if len(tasks) > 1 else out.with_name(f"{out.stem}.perturbed{out.suffix}")
    for changed, place in ((None, out), (perturb, beside))[: 1 if perturb is None else 2]:
        found = evaluated(
            None if module == "none" else module,
            on=backbone, task=tasks if len(tasks) > 1 else task, languages=wanted, split=split, data=source,
            engine=engine, limit=limit, layer=layer, sweep_layers=dev, pooling=pooling, center=center, perturb=changed,
            train_from=train_from, head=head, tokens_per_batch=tokens_per_batch, merged=merged, out=place,
            overwrite=overwrite, on_bad_row=on_bad_row,
        )  # fmt: skip
        results += found.values() if isinstance(found, dict) else [found]
    typer.echo(to_table(results))
    typer.echo(f"saved: {out}" + (f" and {beside}" if perturb and beside != out else ""))
