"""Bad module folders, each a good one with one fault, and good ones of all kinds; `cases` makes them by name.

A fault is made as by someone who knows the format: the manifest is sealed again over what was changed ("mended"), so
that a digest alone does not save the reader. Nothing here is a file of the checkout: all is written by code.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from layouts import parts_of
from samples import make_module, make_part
from sealing import edit_manifest, mend

from adapterxl.artifacts import TaskModule
from adapterxl.backbone import Backbone
from adapterxl.modules import Bottleneck, FusionPart, LoRA, Part

MANIFEST = "adapterxl.json"
# Good folder that a fault starts from -> file whose tensors are hurt, and the library that loads the folder.
FILES = {
    "lora": ("adapter_model.safetensors", "peft"),
    "bottleneck": ("adapter.safetensors", "adapters"),
    "fusion": ("aa,bb/model_adapter_fusion.safetensors", "adapters"),
    "head": ("model_head.safetensors", "adapters"),
    "lowrank": ("parts/fused/fusion.safetensors", None),
}


@dataclass(frozen=True)
class Case:
    """One bad folder.

    Attributes:
        name: Kind of folder, and fault.
        base: The good folder that it starts from.
        hurt: Makes the fault in a copy of it.
        mended: Whether the manifest is sealed again afterwards.
        library: The vanilla library that loads such a folder, if the fault is in a file that it reads.
    """

    name: str
    base: str
    hurt: Callable[[Path], Any]
    mended: bool = True
    library: str | None = None

    def make(self, good: Path, folder: Path) -> Path:
        shutil.copytree(good / self.base, folder)
        self.hurt(folder)
        if self.mended:
            mend(folder)
        return folder


def write_good(on: Backbone, folder: Path) -> Path:
    """The good folders that faults start from, by name."""
    for name, module in good_modules(on):
        if name in (*FILES, "sequence", "stack"):
            module.save(folder / name)
    return folder


def good_modules(on: Backbone) -> Iterator[tuple[str, TaskModule]]:
    """Modules of every layout and kind of head."""
    yield "lora", make_module(on, "m", parts_of("lora", on), "classify")
    yield "sequence", make_module(on, "m", parts_of("lora-sequence", on), "classify")
    yield "bottleneck", make_module(on, "m", parts_of("bottleneck", on), "tag")
    yield "head", make_module(on, "m", parts_of("bottleneck", on), "classify")
    yield "stack", make_module(on, "m", parts_of("stack", on), "tag")
    pair: list[list[Part]] = [[make_part(Bottleneck(reduction=4), n, on, i)] for i, n in enumerate(("aa", "bb"))]
    yield "fusion", make_module(on, "m", [_fused(pair, "adapterfusion", on)], "tag")
    low = [[make_part(LoRA(rank=2), name, on, i)] for i, name in enumerate(("nli", "ner"))]
    yield "lowrank", make_module(on, "m", [_fused(low, "lowrank", on)], "classify")
    for layout in ("lora", "lora-sequence", "lora-one-site", "bottleneck", "houlsby", "parallel", "stack", "mixed",
                   "parallel-stack", "nothing"):  # fmt: skip
        for kind in ("classify", "tag", "span", "choice", ""):
            if kind or layout != "nothing":
                yield f"{layout} {kind or 'without head'}", make_module(on, "m", parts_of(layout, on), kind)


def _fused(members: list[list[Part]], variant: str, on: Backbone) -> FusionPart:
    part = FusionPart("fused", members, [parts[-1].name for parts in members], variant, rank=2)
    begun = part.begun(on, torch.Generator().manual_seed(1), on.dtype)
    return begun.finished({name: tensor + 0.1 for name, tensor in begun.tensors().items()})


def cases() -> dict[str, Case]:
    """Every bad folder by name."""
    found = [*_tensor_cases(), *_config_cases(), *_manifest_cases(), *_folder_cases()]
    return {case.name: case for case in found}


# --- files of tensors


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def join(header: Any, payload: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + payload


def _entry(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    """Change the header's entry of the first tensor."""

    def changed(data: bytes) -> bytes:
        header, payload = split(data)
        change(header[min(name for name in header if name != "__metadata__")])
        return join(header, payload)

    return changed


def _tensors(change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[bytes], bytes]:
    """Change the tensors, all of them float32."""

    def changed(data: bytes) -> bytes:
        header, payload = split(data)
        header.pop("__metadata__", None)
        found = {
            name: np.frombuffer(payload[slice(*one["data_offsets"])], "<f4").reshape(one["shape"]).copy()
            for name, one in sorted(header.items())
        }
        change(found)
        return pack(found)

    return changed


def pack(tensors: dict[str, np.ndarray]) -> bytes:
    header, payload = {}, b""
    for name, array in tensors.items():
        dtype = {"f2": "F16", "f4": "F32", "f8": "F64"}[array.dtype.str[1:]]
        content = array.tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [len(payload), len(payload) + len(content)],
        }
        payload += content
    return join(header, payload)


def _poke(value: float) -> Callable[[bytes], bytes]:
    return _tensors(lambda t: t[min(t)].__setitem__((0,) * t[min(t)].ndim, value))


def _header(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Change the text of the header."""
    return lambda data: join(change(data[8 : 8 + int.from_bytes(data[:8], "little")].rstrip()), split(data)[1])


def _overlap(data: bytes) -> bytes:
    header, payload = split(data)
    entries = sorted((one for name, one in header.items() if name != "__metadata__"), key=lambda o: o["data_offsets"])
    begin, end = entries[1]["data_offsets"]
    entries[1]["data_offsets"] = [begin - 4, end - 4]
    return join(header, payload)


def _hole(data: bytes) -> bytes:
    header, payload = split(data)
    for name, one in header.items():
        if name != "__metadata__" and one["data_offsets"][0]:
            one["data_offsets"] = [place + 64 for place in one["data_offsets"]]
    first = min(one["data_offsets"][1] for name, one in header.items() if name != "__metadata__")
    return join(header, payload[:first] + b"\0" * 64 + payload[first:])


def _many(data: bytes) -> bytes:
    header, payload = split(data)
    flood = {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(20_001)}
    return join(header | flood, payload)


def _rename(tensors: dict[str, np.ndarray]) -> None:
    for name in list(tensors):
        tensors[f"other.{name}"] = tensors.pop(name)


class Executed:
    """What a pickle makes of itself when it is opened: a folder in the working directory."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("EXECUTED",)


def raw_pickle() -> bytes:
    return pickle.dumps({"weight": Executed()}, protocol=2)


def zip_pickle() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", raw_pickle())
        archive.writestr("archive/version", "3\n")
    return content.getvalue()


BASE_WEIGHT = "roberta.embeddings.LayerNorm.weight"  # of tiny.py's backbones, so that the shape fits: (32,)
FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "no bytes": lambda d: b"",
    "seven bytes": lambda d: d[:7],
    "half of it": lambda d: d[: len(d) // 2],
    "the last byte gone": lambda d: d[:-1],
    "64 bytes more": lambda d: d + b"\0" * 64,
    "a header of 2^64-1 bytes": lambda d: b"\xff" * 8 + d[8:],
    "a header of 99 MB": lambda d: (99 << 20).to_bytes(8, "little") + d[8:],
    "a header of deep lists": lambda d: join(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", b""),
    "a header of 40 levels": _header(lambda h: h[:-1] + b',"__metadata__":' + b'{"a":' * 40 + b'""' + b"}" * 41),
    "a header with 2 MB of spaces": _header(lambda h: h + b" " * (2 << 20)),
    "a header that is a list": lambda d: join([], split(d)[1]),
    "a header that is cut": _header(lambda h: h[: len(h) // 2]),
    "a header that is no UTF-8": _header(lambda h: h.replace(b"F32", b"F\xff2", 1)),
    "a header with NaN": lambda d: join(json.dumps(split(d)[0]).replace("[", "[NaN, ", 1).encode(), split(d)[1]),
    "20,001 empty tensors": _many,
    "tensors that overlap": _overlap,
    "a hole between tensors": _hole,
    "a key there twice": _header(lambda h: h[:-1] + b"," + h[1:]),
    "metadata that is a number": lambda d: join(split(d)[0] | {"__metadata__": {"format": 1}}, split(d)[1]),
    "F64 with the bytes of F32": _entry(lambda e: e.update(dtype="F64")),
    "F32 called I32": _entry(lambda e: e.update(dtype="I32")),
    "a dtype that nobody knows": _entry(lambda e: e.update(dtype="F7")),
    "a dtype that is a list": _entry(lambda e: e.update(dtype=["F32"])),
    "a shape below zero": _entry(lambda e: e.update(shape=[-1, *e["shape"][1:]])),
    "a shape of 2^62": _entry(lambda e: e.update(shape=[1 << 62, 1 << 62])),
    "a shape of true": _entry(lambda e: e.update(shape=[True, *e["shape"]])),
    "offsets that are not whole": _entry(lambda e: e.update(data_offsets=[float(x) for x in e["data_offsets"]])),
    "offsets that go back": _entry(lambda e: e.update(data_offsets=e["data_offsets"][::-1])),
    "three offsets": _entry(lambda e: e.update(data_offsets=[*e["data_offsets"], 0])),
    "a field more": _entry(lambda e: e.update(stride=1)),
    "no shape": _entry(lambda e: e.pop("shape")),
    "NaN": _poke(float("nan")),
    "infinity": _poke(float("inf")),
    "minus infinity": _poke(float("-inf")),
    "a tensor less": _tensors(lambda t: t.pop(min(t))),
    "no tensors": lambda d: join({}, b""),
    "all tensors renamed": _tensors(_rename),
    "a tensor more": _tensors(lambda t: t.update(other=np.ones(2, "<f4"))),
    "a weight of the backbone": _tensors(lambda t: t.update({BASE_WEIGHT: np.zeros(32, "<f4")})),
    "a peft key of the backbone": _tensors(
        lambda t: t.update({f"base_model.model.{BASE_WEIGHT}": np.zeros(32, "<f4")})
    ),
    "a name with an escape": _tensors(lambda t: t.update({"\x1b[2Jx": t.pop(min(t))})),
    "another width": _tensors(lambda t: t.update({k: np.concatenate((v, v[..., :1]), -1) for k, v in t.items()})),
    "every size doubled": _tensors(lambda t: t.update({k: np.tile(v, 2) for k, v in t.items()})),
    "half precision": _tensors(lambda t: t.update({k: v.astype("<f2") for k, v in t.items()})),
    "other values": _tensors(lambda t: t[min(t)].__iadd__(1)),
    "a zipped pickle": lambda d: zip_pickle(),
    "a raw pickle": lambda d: raw_pickle(),
}  # fmt: skip


def _tensor_cases() -> Iterator[Case]:
    for base, (file, library) in FILES.items():
        for fault, change in FAULTS.items():

            def hurt(folder: Path, file: str = file, change: Callable[[bytes], bytes] = change) -> None:
                (folder / file).write_bytes(change((folder / file).read_bytes()))

            yield Case(f"{base}: {fault}", base, hurt, library=library)

        def flip(folder: Path, file: str = file) -> None:
            data = bytearray((folder / file).read_bytes())
            data[-3] ^= 1
            (folder / file).write_bytes(data)

        def special(what: str, file: str = file) -> Callable[[Path], None]:
            def hurt(folder: Path) -> None:
                path = folder / file
                path.unlink()
                if what == "link":
                    path.symlink_to("/etc/passwd")
                elif what == "fifo":
                    os.mkfifo(path)
                elif what == "folder":
                    path.mkdir()

            return hurt

        yield Case(f"{base}: one bit flipped", base, flip, mended=False, library=library)
        for what in ("gone", "link", "fifo", "folder"):
            yield Case(f"{base}: weights that are {what}", base, special(what), mended=False, library=library)


# --- configs


def _json(base: str, file: str, name: str, change: Callable[[dict[str, Any]], Any], library: str | None) -> Case:
    def hurt(folder: Path) -> None:
        path = folder / file
        values = json.loads(path.read_text(encoding="utf-8"))
        change(values)
        path.write_text(json.dumps(values), encoding="utf-8")

    return Case(f"{base}: {file}: {name}", base, hurt, library=library)


def _text(base: str, file: str, name: str, change: Callable[[bytes], bytes], library: str | None) -> Case:
    def hurt(folder: Path) -> None:
        (folder / file).write_bytes(change((folder / file).read_bytes()))

    return Case(f"{base}: {file}: {name}", base, hurt, library=library)


TEXTS: dict[str, Callable[[bytes], bytes]] = {
    "a list": lambda d: b"[]",
    "cut": lambda d: d[: len(d) // 2],
    "no UTF-8": lambda d: d.replace(b'"', b'"\xff', 1),
    "200,000 brackets": lambda d: b"[" * 200_000,
    "a key twice": lambda d: b'{"version": "1", ' + d.lstrip()[1:].replace(b"}", b', "version": "1"}', 1),
    "a surrogate": lambda d: b'{"x": "\\ud800", ' + d.lstrip()[1:],
    "five megabytes": lambda d: d + b" " * (5 << 20),
}
PEFT: dict[str, dict[str, Any]] = {
    "rank 1e9": {"r": 10**9},
    "rank 0": {"r": 0},
    "rank below 0": {"r": -4},
    "rank as text": {"r": "8; rm"},
    "rank not whole": {"r": 4.5},
    "alpha NaN": {"lora_alpha": float("nan")},
    "alpha 1e30": {"lora_alpha": 1e30},
    "alpha doubled": {"lora_alpha": 8},
    "a field that nobody knows": {"surprise": 1},
    "an import": {"auto_mapping": {"base_model_class": "Evil", "parent_library": "evilmod"}},
    "megatron": {"megatron_core": "evilmod", "megatron_config": {}},
    "a regex bomb": {"target_modules": "(" * 30 + "a*" + ")*" * 30 + "b"},
    "other targets": {"target_modules": ["layer.0.attention.self.value"]},
    "another base": {"base_model_name_or_path": "../../etc/passwd"},
    "another revision": {"revision": "../../x.y"},
    "DoRA": {"use_dora": True},
    "a transposed weight": {"fan_in_fan_out": True},
    "biases": {"bias": "all"},
    "the backbone to be saved": {"modules_to_save": ["roberta"]},
    "a pattern of ranks": {"rank_pattern": {".*": 10**9}},
    "another method": {"peft_type": "PREFIX_TUNING"},
    "an initialisation that takes from the base": {"init_lora_weights": "pissa"},
}
HUB: dict[str, dict[str, Any]] = {
    "reduction 0": {"reduction_factor": 0},
    "reduction 1e-9": {"reduction_factor": 1e-9},
    "a million layers left out": {"leave_out": list(range(10**5))},
    "an invertible adapter": {"inv_adapter": "nice"},
    "another activation": {"non_linearity": "gelu"},
    "another scale": {"scaling": 1e30},
    "gates": {"use_gating": True},
    "a field that nobody knows": {"surprise": 1},
}


def _config_cases() -> Iterator[Case]:
    for base, file, library in (
        ("lora", "adapter_config.json", "peft"),
        ("bottleneck", "adapter_config.json", "adapters"),
        ("fusion", "aa,bb/adapter_fusion_config.json", "adapters"),
        ("head", "head_config.json", "adapters"),
        ("stack", "adapter_setup.json", "adapters"),
    ):
        for name, change in TEXTS.items():
            yield _text(base, file, name, change, library)
    for name, fields in PEFT.items():
        yield _json("lora", "adapter_config.json", name, lambda v, fields=fields: v.update(fields), "peft")
    for name, fields in HUB.items():
        yield _json("bottleneck", "adapter_config.json", name, lambda v, f=fields: v["config"].update(f), "adapters")
    for name, fields in {
        "another hidden size": {"hidden_size": 1024},
        "another architecture": {"model_type": "gpt2"},
        "a path as its base": {"model_name": "/etc/passwd"},
        "a path as its name": {"name": "../../x.y"},
        "no config": {"config": None},
    }.items():
        yield _json("bottleneck", "adapter_config.json", name, lambda v, f=fields: v.update(f), "adapters")
    for name, fields in {
        "no members": {"adapter_names": []},
        "members in another order": {"adapter_names": ["bb", "aa"]},
        "other members": {"adapter_names": ["../x", "bb"]},
        "a temperature": {"config": {"key": True, "query": True, "value": True, "temperature": True}},
    }.items():
        yield _json("fusion", "aa,bb/adapter_fusion_config.json", name, lambda v, f=fields: v.update(f), "adapters")
    for name, fields in {
        "another head": {"head_type": "image_classification"},
        "a million labels": {"num_labels": 10**6},
        "another activation": {"activation_function": "relu"},
        "nine layers": {"layers": 9},
    }.items():
        yield _json("head", "head_config.json", name, lambda v, f=fields: v["config"].update(f), "adapters")
    for name, setup in {
        "a parallel block": {"type": "Parallel", "children": [{"type": "single", "children": ["nli"]}]},
        "a path as a child": {"type": "Stack", "children": [{"type": "single", "children": ["../nli"]}]},
        "no children": {"type": "Stack", "children": []},
        "itself": {"type": "Stack", "children": [{"type": "Stack", "children": []}]},
    }.items():
        yield _json("stack", "adapter_setup.json", name, lambda v, s=setup: v.update(adapter_setup=s), "adapters")


# --- the manifest


def _first(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda m: m["parts"][0].update({name: value})


MANIFESTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a newer format": lambda m: m.update(format=3),
    "format true": lambda m: m.update(format=True),
    "format as text": lambda m: m.update(format="2"),
    "no base": lambda m: m.pop("base"),
    "a field that nobody knows": lambda m: m.update(surprise=1),
    "a path as its name": lambda m: m.update(name="../up"),
    "another layout": lambda m: m.update(layout="adapterxl"),
    "another kind": lambda m: m.update(kind="tag"),
    "another architecture": lambda m: m["base"].update(model_type="gpt2"),
    "another hidden size": lambda m: m["base"].update(hidden_size=1024),
    "one layer": lambda m: m["base"].update(layers=1),
    "layers as text": lambda m: m["base"].update(layers="3"),
    "a fingerprint that is none": lambda m: m["base"].update(fingerprint="abc"),
    "another kind of head": lambda m: m["head"].update(kind="poetry"),
    "a label less": lambda m: m["head"].update(labels=["x", "y"]),
    "labels in another order": lambda m: m["head"].update(labels=["z", "y", "x"]),
    "an escape in a label": lambda m: m["head"].update(labels=["x", "y", "\x1b[2J"]),
    "text that turns around": lambda m: m.update(notes=["a\u202eb"]),
    "a head outside": lambda m: m["head"].update(file="../model.safetensors"),
    "a head without a key": lambda m: m["head"]["keys"].pop(min(m["head"]["keys"])),
    "a head that is another": lambda m: m["head"].update(digest="0" * 64),
    "a file outside": lambda m: m["files"].update({"../x.safetensors": {"size": 1, "sha256": "0" * 64}}),
    "an absolute file": lambda m: m["files"].update({"/etc/hostname": {"size": 1, "sha256": "0" * 64}}),
    "a file in two spellings": lambda m: m["files"].update({"a/../b": {"size": 1, "sha256": "0" * 64}}),
    "a file below zero": lambda m: m["files"]["adapter_config.json"].update(size=-1),
    "a file of 2^63": lambda m: m["files"]["adapter_config.json"].update(size=1 << 63),
    "a file that is not there": lambda m: m["files"].update({"notes.txt": {"size": 1, "sha256": "0" * 64}}),
    "a pickle in the list": lambda m: m["files"].update({"pytorch_model.bin": {"size": 1, "sha256": "0" * 64}}),
    "a file left out": lambda m: m["files"].pop("adapter_config.json"),
    "no files": lambda m: m.update(files={}),
    "no tensors": lambda m: m.pop("tensors"),
    "a tensor left out": lambda m: m["tensors"]["adapter_model.safetensors"].popitem(),
    "a tensor of another dtype": lambda m: _any_tensor(m).update(dtype="BF16"),
    "a tensor of another shape": lambda m: _any_tensor(m).update(shape=[1]),
    "a tensor of another digest": lambda m: _any_tensor(m).update(sha256="0" * 64),
    "another method": _first("kind", "prompt"),
    "another part": _first("digest", "0" * 64),
    "ranks beyond": lambda m: m["parts"][0]["ranks"].update({"0.query": [0, 99]}),
    "ranks of 1e9": lambda m: m["parts"][0]["ranks"].update({"0.query": [0, 10**9]}),
    "ranks backwards": lambda m: m["parts"][0]["ranks"].update({"0.query": [4, 0]}),
    "ranks nowhere": lambda m: m["parts"][0]["ranks"].update({"0.nowhere": [0, 1]}),
    "ranks of a layer beyond": lambda m: m["parts"][0]["ranks"].update({"99.query": [0, 1]}),
    "a part outside": _first("where", "../other"),
    "a part elsewhere": _first("where", "other"),
    "settings that lie": _first("settings", {"scale": 5.0}),
    "sites that lie": _first("sites", ["query"]),
    "layers that lie": _first("layers", [0]),
    "a name with a slash": _first("name", "a/b"),
    "a part twice": lambda m: m["parts"].append(m["parts"][0]),
    "no parts": lambda m: m.update(parts=[]),
    "a parent that is none": lambda m: m.update(lineage={"operator": "merge", "parents": [{"name": "x"}]}),
    "a megabyte of notes": lambda m: m.update(notes=["x" * (1 << 20)]),
    "notes of 40 levels": lambda m: m["training"].update(deep=json.loads("[" * 40 + "]" * 40)),
}  # fmt: skip


def _any_tensor(manifest: dict[str, Any]) -> dict[str, Any]:
    tensors = manifest["tensors"]["adapter_model.safetensors"]
    found: dict[str, Any] = tensors[min(tensors)]
    return found


def _manifest_cases() -> Iterator[Case]:
    for name, change in MANIFESTS.items():
        yield Case(f"manifest: {name}", "lora", lambda folder, c=change: edit_manifest(folder, c), mended=False)
    for name, text in (TEXTS | {
        "nothing": lambda d: b"",
        "NaN": lambda d: d.replace(b'"format":2', b'"format":NaN'),
        "1e999": lambda d: d.replace(b'"format":2', b'"format":1e999'),
        "another space": lambda d: d.replace(b":", b": ", 1),
        "another letter": lambda d: d.replace(b'"operator":"train"', b'"operator":"trein"'),
    }).items():  # fmt: skip
        found = _text("lora", MANIFEST, name, text, None)
        yield Case(f"manifest: {name}", "lora", found.hurt, mended=False)


# --- folders


def _folder_cases() -> Iterator[Case]:
    def beside(name: str, content: bytes) -> Callable[[Path], None]:
        def hurt(folder: Path) -> None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

        return hurt

    for name, content in (
        ("pytorch_model.bin", zip_pickle()),
        ("adapter_model.bin", raw_pickle()),
        ("evilmod.py", b"import os; os.mkdir('EXECUTED')"),
        ("config.json", b'{"auto_map": {"AutoModel": "evilmod.Evil"}, "_attn_implementation_internal": "evil/kernel"}'),
        ("parts/x/adapter_model.safetensors", pack({"x": np.ones(2, "<f4")})),
        ("weights.tar.gz", b"\x1f\x8b"),
        (".hidden", b"x"),
    ):
        yield Case(f"folder: {name} beside", "lora", beside(name, content), mended=False)

    def linked(folder: Path) -> None:
        shutil.move(folder / "aa", folder.parent / f"{folder.name}-aa")
        (folder / "aa").symlink_to(folder.parent / f"{folder.name}-aa")

    yield Case("folder: a part that is a link", "fusion", linked, mended=False)
    yield Case("folder: no manifest", "lora", lambda folder: (folder / MANIFEST).unlink(), mended=False)
    yield Case(
        "folder: a link as its card", "lora", lambda f: (f / "README.md").symlink_to("/etc/passwd"), mended=False
    )
