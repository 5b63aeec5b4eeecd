"""Imports go one way, heavy and foreign libraries stay where they belong, and nothing executable is read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "adapterxl"

# Each layer may import those above it in this list, and itself. `adapterxl` alone (the version) is free.
LAYERS = (
    "errors", "console", "durable", "folders", "tasks", "miniature", "ragged", "data", "frozen", "backbone",
    "attention", "modules", "artifacts", "operators", "engines", "evaluation", "training", "report", "recipes",
    "hub", "cli", "__main__",
)  # fmt: skip
VANILLA = {"peft", "adapters"}
VANILLA_HOMES = ("engines/", "artifacts/")
NETWORK = {"huggingface_hub", "datasets", "requests", "httpx", "urllib", "urllib3", "http", "socket", "fsspec",
           "aiohttp"}  # fmt: skip
NETWORK_HOMES = ("hub/", "data/hub.py", "backbone.py")
TORCH_FREE = ("errors.py", "durable.py", "tasks/", "miniature/", "data/", "evaluation/metrics/", "evaluation/scores.py",
              "report/", "recipes/", "cli/", "artifacts/store.py", "artifacts/manifest.py",
              "artifacts/check.py", "artifacts/files.py", "artifacts/header.py", "artifacts/strict_json.py",
              "hub/blobs.py", "hub/folders.py", "hub/pulling.py", "hub/pushing.py", "hub/remote.py", "hub/searching.py",
              "hub/transport.py", "hub/verified.py")  # fmt: skip
TORCH_ALLOWED = ("data/prepare", "data/collate")
HEAVY = {"torch", "transformers", "adapters", "peft", "accelerate", "datasets"}
CONVERTER = "artifacts/convert_bin.py"  # the one place that opens pickles: a process of its own, tensors only
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "torch.load", "torch.save", "yaml.unsafe_load"}
FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "runpy", "code", "imp"}
# A small archive can unpack to anything, anywhere. zlib stays for its checksum alone: see below.
ARCHIVES = {"zipfile", "tarfile", "gzip", "bz2", "lzma", "zipimport"}
ARCHIVE_NAMES = {"unpack_archive", "make_archive", "decompress", "decompressobj", "extractall"}
IMPORTERS = {"import_module", "spec_from_file_location", "module_from_spec", "exec_module", "SourceFileLoader",
             "find_spec"}  # fmt: skip
# Where files of the package itself are looked up: those of the same folder, or of a table in the same file.
IMPORT_HOMES = ("__init__.py",)
BUILTINS = {"eval", "exec", "__import__", "__builtins__", "builtins"}  # compile is also a setting of a backbone


@cache
def files() -> dict[str, ast.Module]:
    """Path below the package -> syntax tree."""
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def module_name(path: str) -> str:
    parts = ["adapterxl", *Path(path).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: str, node: ast.AST) -> Iterator[str]:
    """Absolute names of what one statement imports; for `from x import y` both x and x.y."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            here = module_name(path).split(".")
            keep = len(here) - node.level + (1 if path.endswith("__init__.py") else 0)
            base = ".".join([*here[:keep], *([node.module] if node.module else [])])
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)


@cache
def imports(path: str) -> set[str]:
    return {name for node in ast.walk(files()[path]) for name in imported(path, node)}


def type_only(node: ast.If) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports_on_load(path: str) -> set[str]:
    """What importing the file imports: not what stands in functions or under TYPE_CHECKING."""
    found: set[str] = set()
    waiting: list[ast.AST] = [files()[path]]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and type_only(node):
            waiting.extend(node.orelse)
            continue
        found.update(imported(path, node))
        waiting.extend(ast.iter_child_nodes(node))
    return found


def layer_of(name: str) -> str | None:
    """Layer of a dotted name below adapterxl; None for the root's own names."""
    parts = name.split(".")
    inside = {Path(path).parts[0].removesuffix(".py") for path in files()}
    return parts[1] if len(parts) > 1 and parts[1] in inside else None


def below(path: str, places: tuple[str, ...]) -> bool:
    return path.startswith(places)


def test_every_file_belongs_to_a_layer():
    unknown = {Path(path).parts[0].removesuffix(".py") for path in files()} - {*LAYERS, "__init__"}
    assert not unknown, f"give these a place in LAYERS: {sorted(unknown)}"


@pytest.mark.parametrize("path", [path for path in files() if path != "__init__.py"])
def test_a_file_imports_only_from_its_own_layer_and_those_below(path):
    own = LAYERS.index(Path(path).parts[0].removesuffix(".py"))
    ours = [name for name in imports(path) if name.split(".")[0] == "adapterxl"]
    upward = sorted({name for name in ours if (layer := layer_of(name)) and LAYERS.index(layer) > own})
    assert not upward, f"adapterxl/{path} imports upward: {upward}"


def test_only_engines_and_artifacts_know_the_vanilla_libraries():
    for path in files():
        if not below(path, VANILLA_HOMES):
            found = {name.split(".")[0] for name in imports(path)} & VANILLA
            assert not found, f"adapterxl/{path} imports {sorted(found)}"


def test_only_the_hub_and_what_reads_from_it_can_reach_the_network():
    for path in files():
        if not below(path, NETWORK_HOMES):
            found = {name.split(".")[0] for name in imports(path)} & NETWORK
            assert not found, f"adapterxl/{path} imports {sorted(found)}"


def test_files_that_help_and_checks_need_load_without_torch():
    for path in files():
        if below(path, TORCH_FREE) and not below(path, TORCH_ALLOWED):
            found = {name.split(".")[0] for name in imports_on_load(path)} & HEAVY
            assert not found, f"adapterxl/{path} imports {sorted(found)} when it is loaded"


def test_nothing_executable_is_read_or_written():
    for path, tree in files().items():
        modules = {name.split(".")[0] for name in imports(path)}
        assert not modules & FORBIDDEN_IMPORTS, f"adapterxl/{path} imports {sorted(modules & FORBIDDEN_IMPORTS)}"
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        if path == CONVERTER:
            calls.discard("torch.load")
        assert not calls & FORBIDDEN_CALLS, f"adapterxl/{path} calls {sorted(calls & FORBIDDEN_CALLS)}"
        loads = [
            node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "yaml.load"
        ]
        safe = {
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and [ast.unparse(base) for base in node.bases] == ["yaml.SafeLoader"]
        }
        for call in loads:
            loader = [ast.unparse(k.value) for k in call.keywords if k.arg == "Loader"]
            assert set(loader) & safe, f"adapterxl/{path}:{call.lineno}: yaml.load without a SafeLoader"
        keywords = [
            node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "trust_remote_code"
        ]
        trusting = [k for k in keywords if not (isinstance(k.value, ast.Constant) and k.value.value is False)]
        assert not trusting, f"adapterxl/{path} may run code from a repository"


def names_used(tree: ast.Module) -> set[str]:
    """Every name and attribute that a file mentions, called or not, and what it imports by name."""
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    found |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return found | {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names
    }


def bare_names(tree: ast.Module) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_no_archive_is_ever_opened():
    for path, tree in files().items():
        found = {name.split(".")[0] for name in imports(path)} & ARCHIVES | names_used(tree) & ARCHIVE_NAMES
        assert not found, f"adapterxl/{path} opens archives: {sorted(found)}"
        of_zlib = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
                   and ast.unparse(node.value) == "zlib"}  # fmt: skip
        assert of_zlib <= {"crc32"} and "zlib.crc32" not in imports(path), f"adapterxl/{path} unpacks with zlib"


def test_code_is_not_run_by_another_name_either():
    for path, tree in files().items():
        assert not bare_names(tree) & BUILTINS, f"adapterxl/{path} names {sorted(bare_names(tree) & BUILTINS)}"
        assert "builtins" not in imports(path), f"adapterxl/{path} imports builtins"


def test_no_import_is_chosen_by_data():
    for path, tree in files().items():
        found = names_used(tree) & IMPORTERS
        if Path(path).name not in IMPORT_HOMES:
            assert not found, f"adapterxl/{path} imports by name: {sorted(found)}"
            continue
        assert found <= {"import_module"}, f"adapterxl/{path} imports by name: {sorted(found)}"
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                wanted, *parent = map(ast.unparse, node.args)
                ours = wanted.startswith(("f'{__name__}.", "_HOMES[")) or (wanted[:3], parent) == ("f'.", ["__name__"])
                assert ours, f"adapterxl/{path}:{node.lineno} imports {wanted}, which may be no file of the package"


def test_the_converter_of_pickles_is_imported_by_nobody_and_makes_tensors_only():
    assert not any("convert_bin" in name for path in files() for name in imports(path))
    assert not any(name.split(".")[0] == "adapterxl" for name in imports(CONVERTER))
    loads = [node for node in ast.walk(files()[CONVERTER]) if isinstance(node, ast.Call)
             and ast.unparse(node.func) == "torch.load"]  # fmt: skip
    assert len(loads) == 1
    assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in loads[0].keywords)


def test_no_exception_is_swallowed_in_silence():
    for path, tree in files().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                silent = all(isinstance(statement, ast.Pass) for statement in node.body)
                assert not silent, f"adapterxl/{path}:{node.lineno} swallows an exception"


def test_every_file_begins_with_what_it_is_for():
    for path, tree in files().items():
        assert ast.get_docstring(tree), f"adapterxl/{path} has no docstring"
