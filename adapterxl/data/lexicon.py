"""Bilingual lexicons: English words with their translations, one file a language, in the layout of MUSE.

A line is ``word<TAB>translation``, or ``word translation`` where both are single words; a word with several
translations has a line for each, the best first. Source of the layout: Conneau et al. 2018, https://arxiv.org/abs/1710.04087.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapterxl.data.rows import is_blank
from adapterxl.data.textfile import read_text_file
from adapterxl.errors import DataError, UsageError, did_you_mean

MAX_CHARS = 200  # of a word or a translation: a longer one is a broken file
_PATTERNS = ("en-{}.tsv", "en-{}.txt", "{}.tsv", "{}.txt")


@dataclass(frozen=True)
class Lexicon:
    """English words in lower case with their translations into one language, the best first.

    Attributes:
        sha256: Digest of the file's bytes.
    """

    language: str
    entries: Mapping[str, tuple[str, ...]]
    sha256: str

    def __len__(self) -> int:
        return len(self.entries)


def read_lexicon(path: str | Path, language: str) -> Lexicon:
    """Read one lexicon file. Entries that translate a word by itself are left out: nothing would be replaced.

    Raises:
        DataError: With file and line, if it cannot be read, or a line is no word with a translation.
    """
    path = Path(path)
    file = read_text_file(path, shown=str(path), relative=path.name, name=path.stem)
    entries: dict[str, dict[str, None]] = {}
    for number, line in enumerate(file.lines(), 1):
        cells = line.split("\t") if "\t" in line else line.split()
        if len(cells) != 2 or any(is_blank(cell) or len(cell) > MAX_CHARS for cell in cells):
            found = line if len(line) <= 60 else f"{line[:57]}..."
            raise DataError(
                f"{path}:{number}: found {found!r}, expected an English word, a tab and its translation (or a space, "
                f"where both are single words), of at most {MAX_CHARS} characters each. Mend the line."
            )
        word, translation = (" ".join(cell.split()) for cell in cells)
        if word.lower() != translation.lower():
            entries.setdefault(word.lower(), {})[translation] = None
    if not entries:
        raise DataError(f"{path}: no entry translates a word by another; expected lines such as: dog<TAB>Hund.")
    return Lexicon(language, {word: tuple(found) for word, found in entries.items()}, file.sha256)


def read_lexicons(path: str | Path, languages: Sequence[str] | None = None) -> dict[str, Lexicon]:
    """Read the lexicons of some languages; see `lexicon_files`."""
    return {language: read_lexicon(file, language) for language, file in lexicon_files(path, languages).items()}


def lexicon_files(path: str | Path, languages: Sequence[str] | None = None) -> dict[str, Path]:
    """Find the lexicons of some languages: in a folder, where the file of German is en-de.tsv, en-de.txt, de.tsv or
    de.txt; or a single file, with its language.

    Args:
        languages: All that the folder has, if None.

    Raises:
        UsageError: If there is no such folder or file, or none for a language.
    """
    path = Path(path)
    if path.is_file():
        if languages is None or len(languages) != 1:
            raise UsageError(f"lexicon {path}: a single file holds one language; say which, such as languages=[de].")
        return {languages[0]: path}
    if not path.is_dir():
        raise UsageError(f"lexicon {path}: found nothing, expected a folder with files such as en-de.tsv, or a file.")
    known = _files(path)
    if not known:
        raise UsageError(f"lexicon {path}: no lexicon in this folder; expected files such as en-de.tsv or de.txt.")
    for language in languages or ():
        if language not in known:
            raise UsageError(
                f"lexicon {path}: none for '{language}'.{did_you_mean(language, known)} There: {', '.join(known)}."
            )
    return {language: known[language] for language in languages or known}


def _files(folder: Path) -> dict[str, Path]:
    """Language -> file, sorted; of several for a language the one whose name says most."""
    found: dict[str, Path] = {}
    for pattern in _PATTERNS:
        before, after = pattern.split("{}")
        for path in sorted(folder.glob(pattern.format("*"))):
            code = path.name[len(before) : -len(after)]
            if code.isalpha() and 2 <= len(code) <= 3:
                found.setdefault(code, path)
    return dict(sorted(found.items()))


def lexicon_text(entries: Iterable[tuple[str, str]]) -> str:
    """The content of a lexicon file: (word, translation) pairs, a word's best translation first."""
    return "".join(f"{word}\t{translation}\n" for word, translation in entries)


def made_lexicon(language: str, entries: Sequence[tuple[str, str]]) -> Lexicon:
    """The lexicon that reading the written entries gives."""
    grouped: dict[str, list[str]] = {}
    for word, translation in entries:
        grouped.setdefault(word, []).append(translation)
    digest = hashlib.sha256(lexicon_text(entries).encode()).hexdigest()
    return Lexicon(language, {word: tuple(found) for word, found in grouped.items()}, digest)
