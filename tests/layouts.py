"""One list of parts for every layout of a module folder."""

from __future__ import annotations

from samples import make_part

from adapterxl.backbone import Backbone
from adapterxl.modules import Bottleneck, LoRA, Part

# Layout name -> the vanilla library that loads it, None where there is no vanilla form.
LAYOUTS: dict[str, str | None] = {
    "lora": "peft",
    "lora-sequence": "peft",
    "lora-one-site": "peft",
    "bottleneck": "adapters",
    "houlsby": "adapters",
    "parallel": "adapters",
    "stack": "adapters",
    "mixed": None,
    "parallel-stack": None,
    "nothing": None,
}


def parts_of(layout: str, on: Backbone) -> list[Part]:
    """The parts of a layout, some sites, layers, ranks and scales unlike the others."""
    nli = make_part(LoRA(rank=4), "nli", on, 1)
    ner = make_part(LoRA(rank=3, alpha=7, sites=("query", "ffn_down"), layers=(1, 2)), "ner", on, 2, [nli])
    pos = make_part(LoRA(rank=5, alpha=1, sites=("attention_output", "query"), layers=(0, 1)), "pos", on, 3, [nli, ner])
    one = make_part(LoRA(rank=1, sites=("ffn_up",), layers=(2,)), "one", on, 4)
    pfeiffer = make_part(Bottleneck(reduction=5), "nli", on, 5)
    houlsby = make_part(Bottleneck(variant="double_seq_bn", reduction=8, layers=(0, 2)), "ner", on, 6)
    parallel = make_part(Bottleneck(variant="par_bn", layers=(1, 2)), "par", on, 7)
    again = make_part(Bottleneck(reduction=16), "nli", on, 8, [pfeiffer, houlsby])
    return {
        "lora": [nli],
        "lora-sequence": [nli, ner, pos],
        "lora-one-site": [one],
        "bottleneck": [pfeiffer],
        "houlsby": [houlsby],
        "parallel": [parallel],
        "stack": [pfeiffer, houlsby, again],
        "mixed": [nli, pfeiffer, ner],
        "parallel-stack": [parallel, pfeiffer],
        "nothing": [],
    }[layout]
