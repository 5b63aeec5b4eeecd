"""The languages of the miniature world: a file each."""

from __future__ import annotations

from adapterxl.miniature.grammar import Language
from adapterxl.miniature.languages import de, en, es, ru, tr, zh

LANGUAGES: dict[str, Language] = {each.LANGUAGE.code: each.LANGUAGE for each in (en, de, es, tr, ru, zh)}
