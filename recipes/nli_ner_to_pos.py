"""Does training on NLI, then on NER, help tagging in languages without labels? Read from top to bottom.

Run it in the checkout: python recipes/nli_ner_to_pos.py [BASE [DATA]]
BASE is a folder or a hub id such as FacebookAI/xlm-roberta-base; DATA is a folder with an index.
"""

import os
import sys
from pathlib import Path

import adapterxl as axl

shared = Path(os.environ.get("ADAPTERXL_SHARED", "../shared"))
base = sys.argv[1] if len(sys.argv) > 1 else str(shared / "models" / "xlmr-mini")
data = sys.argv[2] if len(sys.argv) > 2 else str(shared / "data")
rows = int(os.environ.get("ROWS", "4000"))  # English training rows of each task
out = Path("out/nli_ner_to_pos")

# The encoder stays frozen; every module below is a small addition to it.
xlmr = axl.Backbone(base)
settings = axl.Settings(epochs=1, batch_size=32, seed=1)
common = dict(on=xlmr, method=axl.LoRA(rank=8), settings=settings, data=data, limit=rows, overwrite=True)

# Two intermediate tasks in English. NER is trained on top of NLI, so that both can be merged in this order.
nli = axl.train("mnli", name="nli", out=out / "nli", **common)
ner = axl.train("panx", name="ner", out=out / "ner", start=axl.merge(nli), **common)

# The target task, English again: once on top of both, once on nothing.
pos = axl.train("udpos", name="pos", out=out / "pos", start=axl.merge(nli, ner), **common)
alone = axl.train("udpos", name="pos_alone", out=out / "pos_alone", **common)

# Zero-shot: no language but English was ever trained on.
languages = ["en", "de", "es", "fr", "ru", "ar", "zh", "vi"]
scores = [
    axl.evaluate(module, on=xlmr, task="udpos", languages=languages, data=data, limit=300, out=out / f"{name}.json")
    for name, module in {"pos": pos, "pos_alone": alone}.items()
]
print("report:", axl.report(scores, out=out / "report.html"))
