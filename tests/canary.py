"""Run by test_canary.py in a process of its own: open bad folders under an audit hook; print what it heard.

Everything that loading good folders imports is imported before the hook listens, by loading them; an import that a bad
folder makes afterwards is one that its data chose, or a path that only refusals take.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path


def main(base: str, work: str, step: str) -> None:
    """Open every `step`-th bad folder of the corpus."""
    from corpus import cases, write_good

    from adapterxl.artifacts import import_folder, load
    from adapterxl.backbone import Backbone
    from adapterxl.errors import AdapterXLError

    on = Backbone(base, device="cpu")
    os.chdir(work)
    good = write_good(on, Path("good"))
    folders = [(name, case.make(good, Path(f"{index}"))) for index, (name, case) in enumerate(cases().items())
               if index % int(step) == 0]  # fmt: skip
    for folder in sorted(good.iterdir()):
        load(folder)
        if folder.name not in ("lowrank", "sequence"):
            os.rename(folder / "adapterxl.json", "kept.json")
            import_folder(folder, on=on)
            os.rename("kept.json", folder / "adapterxl.json")
    for refused in folders[:2]:  # what an error itself needs
        with contextlib.suppress(AdapterXLError):
            load(refused[1])
    on.model.state_dict()
    heard: list[str] = []
    now = [""]
    watched = ("import", "exec", "compile", "pickle.", "subprocess.", "os.system", "os.exec", "os.posix_spawn",
               "os.fork", "socket.", "ctypes.dlopen", "marshal.", "urllib.", "tempfile.")  # fmt: skip

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if now[0] and event.startswith(watched):
            heard.append(f"{now[0]}: {event} {str(arguments)[:120]}")

    sys.addaudithook(hook)
    refused_count, escaped = 0, []
    for name, folder in folders:
        for foreign in (False, True):
            if foreign:
                (folder / "adapterxl.json").unlink(missing_ok=True)
            now[0], text = name, ""
            try:
                import_folder(folder, on=on) if foreign else load(folder)
            except AdapterXLError as error:
                refused_count += not foreign
                text = str(error)
            except BaseException as error:
                text = f"{type(error).__name__}: {error}"
                escaped.append(f"{name}: {text}")
            finally:
                now[0] = ""
            if os.environ["HF_TOKEN"] in text:
                escaped.append(f"{name}: the token is in {text}")
    now[0] = "control"  # the hook does hear: a module that is not there yet, and a compiled text
    compile("1", "control", "eval")
    now[0] = ""
    controls = [one for one in heard if one.startswith("control")]
    found = {"folders": len(folders), "refused": refused_count, "escaped": escaped,
             "heard": [one for one in heard if one not in controls], "controls": len(controls),
             "executed": Path("EXECUTED").exists()}  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
