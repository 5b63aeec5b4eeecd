"""`adapterxl train`: train one module on a task or a mix of tasks, or a module for each of several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from adapterxl.cli import options as opt
from adapterxl.errors import UsageError
from adapterxl.recipes.method import make_method, make_settings

# Defaults that live in Settings and in the methods are shown by help; a test holds them together.


def train(
    tasks: Annotated[
        list[str], typer.Argument(metavar="TASK [TASK ...]", help="Task names, a my_task.yaml, or mix(A, B).")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            show_default="required",
            help="Folder of the module (of the modules, if several); --dry-run needs none.",
        ),
    ] = None,
    base: opt.Base = None,
    data: opt.Data = None,
    lock: opt.Lock = None,
    accept_data: opt.AcceptData = False,
    method: Annotated[
        str, typer.Option(metavar="lora|rslora|dora|bottleneck|none", help="What is trained beside the head.")
    ] = "lora",
    rank: Annotated[int | None, typer.Option(min=1, show_default="8", help="lora: rank.")] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            show_default="2 * rank; rslora: 16",
            help="lora, dora: the update is scaled by alpha / rank; rslora: by alpha / sqrt(rank).",
        ),
    ] = None,
    rank_pattern: Annotated[
        str | None,
        typer.Option(metavar="WHERE=N,..", help="Other ranks by site, layer or both: ffn_up=16,3=4,3.query=2."),
    ] = None,
    alpha_pattern: Annotated[str | None, typer.Option(metavar="WHERE=X,..", help="Other alphas, likewise.")] = None,
    dropout: Annotated[float | None, typer.Option(min=0, show_default="0.0", help="Dropout inside the module.")] = None,
    sites: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            show_default="all six",
            help="lora: query, key, value, attention_output, ffn_up, ffn_down.",
        ),
    ] = None,
    reduction: Annotated[
        int | None,
        typer.Option(min=1, show_default="16; par_bn: 2", help="bottleneck: hidden size / bottleneck size."),
    ] = None,
    variant: Annotated[
        str | None,
        typer.Option(metavar="seq_bn|double_seq_bn|par_bn", show_default="seq_bn", help="bottleneck: where it acts."),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(metavar="0-3,5", show_default="all", help="Layers that the module acts in, from 0.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="EXPR", help="""Train on top of this, such as "merge(out/nli, out/ner)". It stays frozen."""
        ),
    ] = None,
    engine: opt.Engine = "packed",
    train_languages: Annotated[
        str | None, typer.Option(metavar="en,..", show_default="en", help="Languages of the training rows.")
    ] = None,
    train_from: opt.TrainFrom = None,
    sampling: Annotated[
        str | None,
        typer.Option(
            metavar="proportional|uniform|temperature=T|capped=N|weights=A:B",
            show_default="proportional",
            help="How often each task of a mix(...) gives a batch, by its number of rows.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, show_default="all", help="Train on this many rows, a sample by seed.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, show_default="1", help="Seed of everything random.")] = None,
    epochs: Annotated[float | None, typer.Option(show_default="3", help="Passes over the rows.")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps, in place of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, show_default="32", help="Rows per batch.")] = None,
    tokens_per_batch: Annotated[int | None, typer.Option(min=1, help="Tokens per batch, in place of rows.")] = None,
    lr: Annotated[float | None, typer.Option(show_default="by method", help="Highest learning rate.")] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0, show_default="0.01", help="Of AdamW.")] = None,
    warmup: Annotated[
        float | None, typer.Option(min=0, max=1, show_default="0.1", help="Share of the steps until the highest rate.")
    ] = None,
    accumulation: Annotated[
        int | None, typer.Option(min=1, show_default="1", help="Batches per optimizer step.")
    ] = None,
    eval_every: Annotated[int | None, typer.Option(min=1, help="Score the English dev rows every N steps.")] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many scorings without a better one.")
    ] = None,
    trunk_cache: Annotated[
        str | None,
        typer.Option(
            metavar="bf16|fp32",
            show_default="off",
            help="Compute the layers below all modules once a row, and keep them in a file; see --layers.",
        ),
    ] = None,
    trunk_cache_limit: Annotated[
        float | None, typer.Option(show_default="20", help="Most GB that these files may take.")
    ] = None,
    dtype: opt.Dtype = "fp32",
    bits: opt.Bits = None,
    embeddings: opt.Embeddings = "device",
    checkpointing: opt.Checkpointing = False,
    compile: opt.Compile = False,
    memory: Annotated[
        str | None,
        typer.Option(metavar="4GB", help="Fit into this: embeddings, checkpointing, batches; then bf16, 8, 4 bits."),
    ] = None,
    halve_on_oom: Annotated[
        bool, typer.Option("--halve-on-oom", help="Where memory is short, cut batches and make the same steps.")
    ] = False,
    device: opt.Device = "auto",
    on_bad_row: opt.OnBadRow = "stop",
    augment: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OPERATOR(...)",
            help='Data operator on the training rows: "codeswitch(ratio=0.5, lexicon=DIR)"; again for another one.',
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(show_default="the task", help="Name of the module.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last state, kept in DIR.run; keep what is finished.")
    ] = False,
    override: Annotated[
        bool,
        typer.Option("--override", help="Resume although data, settings or device are others; the manifest says so."),
    ] = False,
    overwrite: opt.Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print sizes, estimated cost and memory.")] = False,
) -> None:
    """Train a module in English on a frozen backbone, on nothing or on top of a composition.

    Several tasks give a module each, trained together; mix(A, B) gives one with a head for each task.
    """
    opt.one_of("--engine", engine, opt.ENGINES)
    if out is None and not dry_run:
        raise typer.BadParameter("missing; name the folder that the module is written to", param_hint="--out")
    if trunk_cache is not None:
        opt.one_of("--trunk-cache", trunk_cache, ("bf16", "fp32"))
    _not_both("--epochs", epochs, "--max-steps", max_steps)
    _not_both("--batch-size", batch_size, "--tokens-per-batch", tokens_per_batch)
    if len(tasks) > 1 and name is not None:
        raise UsageError("--name: several tasks give several modules, each named after its task; leave it out")
    given = {
        "epochs": epochs, "max_steps": max_steps, "batch_size": batch_size, "tokens_per_batch": tokens_per_batch,
        "lr": lr, "weight_decay": weight_decay, "warmup": warmup, "accumulation": accumulation, "seed": seed,
        "eval_every": eval_every, "patience": patience, "trunk_cache": trunk_cache,
        "trunk_cache_limit": trunk_cache_limit,
        "memory": memory, "halve_on_oom": halve_on_oom or None,
    }  # fmt: skip
    of_method = {
        "rank": rank, "alpha": alpha, "dropout": dropout, "sites": opt.names("--sites", sites),
        "reduction": reduction, "variant": variant, "layers": opt.layer_numbers(layers),
        "rank_pattern": opt.pattern("--rank-pattern", rank_pattern, int),
        "alpha_pattern": opt.pattern("--alpha-pattern", alpha_pattern, float),
    }  # fmt: skip
    from adapterxl.data.augment import read_augmentations
    from adapterxl.training.sampling import is_mix, read_mix

    read: list[Any] = [read_mix(task, sampling) if is_mix(task) else task for task in tasks]
    if sampling is not None and tasks == read:
        raise UsageError("--sampling is of a mix of several tasks; write it as: train 'mix(squad, mnli)'")
    chosen, settings, operators = make_method(method, of_method), make_settings(given), read_augmentations(augment)
    source = opt.data_source(data, lock, accept_data)
    backbone = opt.backbone(
        base, dtype, device, bits=bits, embeddings=embeddings, checkpointing=checkpointing, compile=compile,
        load=memory is None,
    )  # fmt: skip

    from adapterxl import training

    arguments: dict[str, Any] = dict(
        on=backbone, method=chosen, settings=settings, start=start, engine=engine, data=source, train_from=train_from,
        train_languages=opt.names("--train-languages", train_languages), limit=limit, augment=operators,
        name=name, out=out, resume=resume, override=override, overwrite=overwrite,
        on_bad_row=on_bad_row,
    )  # fmt: skip
    what = read[0] if len(read) == 1 else read
    if dry_run:
        for label, value in training.plan(what, **arguments).table():
            typer.echo(f"{label}: {value}")
        return
    from adapterxl.training.processes import is_main

    trained = training.train(what, **arguments)
    if not is_main():
        return
    for module in trained.values() if isinstance(trained, dict) else [trained]:
        figures = module.training
        score = f", {figures['dev_score']:.1%} on the English dev rows" if "dev_score" in figures else ""
        typer.echo(f"saved: {module.path} ({figures['steps']:,} steps, {figures['seconds']:.0f} s{score})")


def _not_both(first: str, one: object, second: str, other: object) -> None:
    if one is not None and other is not None:
        raise UsageError(f"{first} and {second} say the same thing in two ways; give one of them")
