"""Words of running text, and the languages whose script sets no spaces between them."""

from __future__ import annotations

import unicodedata

# ISO 639-1 codes of languages whose words stand without spaces: a translation is joined to its neighbour there.
UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my", "bo", "dz"})


class _Apart(dict[int, str]):
    """Maps every character that is no part of a word to a space; filled as characters come up."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        inside = unicodedata.category(character)[0] in "LM" or character in "'’\u200c\u200d"
        self[code] = character if inside else " "
        return self[code]


_APART = _Apart()


def words_of(text: str) -> list[str]:
    """Return the words of a text as they are written: runs of letters with their marks; apostrophes only inside.

    In a script without spaces a run is a phrase, which `align` cuts further.
    """
    found = (word.strip("'’\u200c\u200d") for word in text.translate(_APART).split())
    return [word for word in found if word]
