"""Which tokenizer is it? A digest of the token ids that it gives, however its files are spelled."""

from __future__ import annotations

import hashlib
import json
from typing import Any

# Case, accents in both spellings, spaces, digits, marks, full width, and scripts with and without spaces.
PROBE = (
    "Das Übermaß: cafe\u0301 or café?  3,1415 – don't re-read it!\tＡＢＣ ﬁne №5; Ещё раз; İstanbul; "
    "我喜欢读书。東京都; القُرآن; हिन्दी में; ภาษาไทย; 한국어를; Ελληνικά 🙂"
)


def tokens_digest(tokenizer: Any) -> str:
    """sha256 over a fast tokenizer's vocabulary (token, id) and the ids that it gives to a pair of `PROBE`.

    It is that of the ids and not of the files: tokenizer.json, a SentencePiece model or a copy that another release
    has written are the same tokenizer as long as they cut alike.
    """
    found = [sorted(tokenizer.get_vocab().items()), tokenizer(PROBE, PROBE.lower())["input_ids"]]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()
