"""`adapterxl lexicon`: bilingual lexicons from parallel text, for code-switched training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from adapterxl.cli import options as opt

# Defaults that live in Induction are shown by help; a test holds them together.


def lexicon(
    task: Annotated[
        str, typer.Argument(metavar="TASK|my_task.yaml", help="Parallel text: tatoeba, or your own (kind: retrieve).")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the lexicons: en-de.tsv, ...")],
    data: opt.Data = None,
    lock: opt.Lock = None,
    accept_data: opt.AcceptData = False,
    languages: Annotated[str, typer.Option(metavar="all|de,zh,..", help="Languages of the lexicons.")] = "all",
    threshold: Annotated[
        float | None,
        typer.Option(
            show_default="0.2", help="Least score, 0 to 1: root of t(word | translation) t(translation | word)."
        ),
    ] = None,
    min_count: Annotated[
        int | None, typer.Option(show_default="3", help="Least number of times that either word occurs.")
    ] = None,
    most: Annotated[int | None, typer.Option(show_default="3", help="Most translations of a word.")] = None,
    iterations: Annotated[int | None, typer.Option(show_default="5", help="Of EM.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, show_default="all", help="The first pairs of each language only.")
    ] = None,
    on_bad_row: opt.OnBadRow = "stop",
) -> None:
    """Induce lexicons from English to other languages by IBM model 1, for train --augment "codeswitch(lexicon=DIR)"."""
    from adapterxl import __version__
    from adapterxl.artifacts.store import check_target, publish
    from adapterxl.console import say
    from adapterxl.data.align import Induction
    from adapterxl.data.lexicon import lexicon_text
    from adapterxl.data.parallel import induced_lexicons, origin_notes

    given = {"threshold": threshold, "min_count": min_count, "most": most, "iterations": iterations}
    how = Induction(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    wanted = opt.languages_of(languages)
    check_target(out, overwrite=False)
    source = opt.data_source(data, lock, accept_data)
    files: dict[str, bytes] = {}
    facts: dict[str, object] = {}
    made = []
    for one in induced_lexicons(
        task, source, None if wanted == "all" else wanted, how=how, limit=limit, on_bad_row=on_bad_row
    ):
        made.append(one)
        language = one.lexicon.language
        files[f"en-{language}.tsv"] = lexicon_text((word, known) for word, known, _ in one.entries).encode()
        facts[language] = {
            "words": len(one.lexicon), "entries": len(one.entries), "pairs": one.pairs, "split": one.split,
            "dropped_rows": len(one.loaded.dropped), "sha256": one.lexicon.sha256,
            "data": {file.path: file.sha256 for file in one.loaded.files},
        }  # fmt: skip
        typer.echo(f"{language}: {len(one.lexicon):,} words, {len(one.entries):,} entries from {one.pairs:,} pairs")
    facts = {
        "made by": f"adapterxl {__version__}, IBM model 1", "from": Path(task).name, "settings": vars(how),
        "languages": facts,
    }  # fmt: skip
    files["lexicon.json"] = json.dumps(facts, indent=2, ensure_ascii=False).encode() + b"\n"
    say(origin_notes(made))
    publish(out, files)
    typer.echo(f"saved: {out}")
