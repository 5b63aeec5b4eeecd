"""What benchmarks measure a step by, beside its time: operations, bytes kept for the backward pass, peak memory."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile

from adapterxl.modules import Head, LoRAPart, Part


def step_flops(
    on: Any, part: Part, head: Head, positions: int, squares: int, outputs: int, rows: int | None = None
) -> int:
    """Floating point operations of the matrix products of one forward and backward pass.

    With T positions, S the sum of squared row lengths, d the hidden and f the inner size, a layer's forward costs
    2 T (4 d^2 + 2 d f) in its Linears and 4 S d in attention. Backward, a frozen Linear costs its forward once more
    (the gradient of its input; its weights have none) and attention twice (both factors of both products have
    gradients). A trained matrix of n weights costs 2 T n forward and 4 T n backward. In the lowest layer nothing
    asks for the gradient of the layer's input: LoRA saves that part of query, key and value and of their A; a
    bottleneck after the feed-forward block saves the whole backward of the layer and that of its down-projection.
    Padding counts as positions. Embeddings, norms, activations, dropout and optimizer have no matrix products.

    Args:
        on: The backbone's dimensions: hidden, intermediate, layers (2 or more).
        part: LoRA at all six sites, or seq_bn, in every layer.
        positions: Token positions that the encoder computes.
        squares: Sum of the squared row lengths, padding included where it is computed.
        outputs: What the head scores: sequences (classify), labelled tokens (tag) or all tokens (span).
        rows: Where the last layer computes only keys and values of all positions, and the rest for as many rows' first
            tokens; None where it computes all.
    """
    d, last = on.hidden, str(on.layers - 1)
    few = positions if rows is None else rows
    linear = 2 * positions * (4 * d * d + 2 * d * on.intermediate)
    attention = 4 * squares * d
    linear_last = 2 * positions * 2 * d * d + 2 * few * (2 * d * d + 2 * d * on.intermediate)
    attention_last = attention if rows is None else 4 * positions * d
    forward = (on.layers - 1) * (linear + attention) + linear_last + attention_last
    backward = (on.layers - 1) * (linear + 2 * attention) + linear_last + 2 * attention_last
    matrices = {name: tensor.numel() for name, tensor in part.tensors().items() if tensor.ndim == 2}
    module = 0
    for name, numbers in matrices.items():
        layer, site = name.split(".")[:2]
        module += 6 * numbers * (few if layer == last and site not in ("key", "value") else positions)
    if isinstance(part, LoRAPart):
        backward -= 2 * positions * 3 * d * d
        lowest = [f"0.{site}.A" for site in ("query", "key", "value")]
    else:
        backward -= linear + 2 * attention
        lowest = ["0.ffn.down.weight"]
    module -= 2 * positions * sum(matrices[name] for name in lowest)
    of_head = 6 * outputs * sum(tensor.numel() for tensor in head.tensors().values() if tensor.ndim == 2)
    return forward + backward + module + of_head


def saved_bytes(forward: Callable[[], Tensor], weights: Iterable[Tensor]) -> int:
    """Bytes that autograd keeps for the backward pass of `forward`.

    A storage counts once however many tensors lie in it; the storages of `weights` do not count.
    """
    own = {weight.untyped_storage().data_ptr() for weight in weights}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # a node that keeps its own output would else hold itself, and never be freed

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    del result  # till here it held the graph, so no address could come back as another storage
    return sum(kept.values())


def peak_bytes(step: Callable[[], None], device: torch.device) -> int:
    """Most bytes that PyTorch held at once during a step, above what it held before."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it writes a line per profile to stderr
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        record.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [(event["args"]["Ev Idx"], event["args"]["Bytes"]) for event in events if event["name"] == "[memory]"]
    held = np.cumsum([count for _, count in sorted(changes)])
    return int(held.max(initial=0))


def peak_rss() -> int:
    """Most memory that this process ever held, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would count what the parent held before this program began
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024


def count(text: str) -> int:
    """A whole number from 1 on the command line."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"found {text}, expected a whole number from 1")
    return value


def machine(device: torch.device) -> dict[str, Any]:
    """What figures were taken on, without the machine's name."""
    listing = Path("/proc/cpuinfo")
    lines = listing.read_text(encoding="utf-8").splitlines() if listing.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }
