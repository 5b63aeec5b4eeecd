"""How a language is written down: tagged templates, a phrase for every thing, and the way words are joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from adapterxl.miniature.facts import VERBS, Fact, Label


@dataclass(frozen=True)
class Word:
    """A word with its universal part of speech, IOB2 entity tag, the slot it fills and whether a space precedes it."""

    text: str
    tag: str
    entity: str = "O"
    slot: str = ""
    space: bool = True


Words = tuple[Word, ...]


@dataclass(frozen=True)
class Language:
    """A language of the world.

    Attributes:
        templates: Name -> words as ``text/TAG`` and slots as ``{slot.form}``. A statement of a relation carries the
            relation's name, "not at" its negation; questions are "ask RELATION SLOT".
        phrase: (thing, form, third) -> words as ``text/TAG`` or ``text/TAG/ENTITY``; `third` is a colour or None.
        adverbs: Adverb -> word; it opens the sentence.
        verdicts: Label of a statement -> the word that says so, a sentence of its own.
        joint: Words between two clauses.
        verb_second: The subject follows the verb after an opening adverb.
        spaced: Words are separated by spaces.
        capital: How the first letter of a sentence is written.
        stop, ask: Closing words of a statement, opening and closing words of a question.
    """

    code: str
    templates: Mapping[str, str]
    phrase: Callable[[str, str, str | None], str]
    adverbs: Mapping[str, str]
    verdicts: Mapping[Label, str]
    joint: str
    verb_second: bool = False
    spaced: bool = True
    capital: Callable[[str], str] = str.upper
    stop: str = "./PUNCT"
    ask: tuple[str, str] = ("", "?/PUNCT")

    def state(self, *facts: Fact, adverb: str | None = None) -> Words:
        """One sentence that states one fact, or two joined; `adverb` opens it."""
        clauses = [self._statement(fact, adverb if n == 0 else None) for n, fact in enumerate(facts)]
        words = clauses[0]
        for clause in clauses[1:]:
            words = (*words, *_words(self.joint), *clause)
        return self._finish((*words, *_words(self.stop)))

    def question(self, fact: Fact, slot: str) -> Words:
        """The question that `fact` answers with what stands in `slot` (subject, object or third)."""
        opening, closing = self.ask
        body = self._fill(self.templates[f"ask {fact.relation} {slot}"], fact)
        return self._finish((*_words(opening), *body, *_words(closing)))

    def verdict(self, label: Label) -> Words:
        """One word, as a sentence, that says whether the statement before it is true."""
        return self._finish((*_words(self.verdicts[label]), *_words(self.stop)))

    def asks(self, fact: Fact) -> tuple[str, ...]:
        """The slots of a fact that can be asked for."""
        return tuple(s for s in ("subject", "object", "third") if f"ask {fact.relation} {s}" in self.templates)

    def text(self, words: Sequence[Word]) -> str:
        """Words as running text."""
        return "".join((" " if word.space and n else "") + word.text for n, word in enumerate(words))

    def span(self, words: Sequence[Word], slot: str) -> tuple[str, int]:
        """Text and first character of the words that fill a slot."""
        found = [n for n, word in enumerate(words) if word.slot == slot]
        before = self.text(words[: found[0] + 1])
        inside = words[found[0] : found[-1] + 1]
        start = len(before) - len(words[found[0]].text)
        return self.text(inside), start

    def _statement(self, fact: Fact, adverb: str | None) -> Words:
        name = "not at" if fact.negated else fact.relation
        template = self.templates[name].split()
        if adverb is not None:
            if self.verb_second:
                template[:2] = reversed(template[:2])
            template.insert(0, self.adverbs[adverb])
        return self._fill(" ".join(template), fact)

    def _fill(self, template: str, fact: Fact) -> Words:
        words: list[Word] = []
        for token in template.split():
            if not token.startswith("{"):
                words += _words(token)
                continue
            slot, _, form = token.strip("{}").partition(".")
            thing = {"subject": fact.subject, "object": fact.object, "third": fact.third}[slot]
            colour = fact.third if slot == "object" and fact.relation == "has" else None
            words += _phrase(self.phrase, thing or "", form or "nom", colour, slot)
        return tuple(words)

    def _finish(self, words: Words) -> Words:
        finished: list[Word] = []
        start = True  # of the sentence, or just after what opens it
        for word in words:
            text = self.capital(word.text[0]) + word.text[1:] if start and word.text not in _OPENED else word.text
            space = self.spaced and word.text not in _CLOSED and not (start and finished)
            finished.append(Word(text, word.tag, word.entity, word.slot, space))
            start = start and word.text in _OPENED
        return tuple(finished)


_CLOSED, _OPENED = frozenset(".,?。，？"), frozenset("¿")


@cache
def _phrase(phrase: Callable[..., str], thing: str, form: str, colour: str | None, slot: str) -> Words:
    return _words(phrase(thing, form, colour), slot)


@cache
def _words(text: str, slot: str = "") -> Words:
    """Words of a template; they fill `slot`."""
    parts = [token.split("/") for token in text.split()]
    return tuple(Word(part[0], part[1], part[2] if len(part) > 2 else "O", slot) for part in parts)


def names(tokens: str, kind: str) -> str:
    """Tag a name: ``names("New York", "LOC")`` is ``New/PROPN/B-LOC York/PROPN/I-LOC``."""
    return " ".join(f"{token}/PROPN/{'I' if n else 'B'}-{kind}" for n, token in enumerate(tokens.split()))


def verb_templates(statement: str, question: str, forms: Mapping[str, str]) -> dict[str, str]:
    """Templates of the plain verbs: `VERB` in a pattern is replaced by each verb's words."""
    found = {}
    for verb in VERBS:
        found[verb] = statement.replace("VERB", forms[verb])
        found[f"ask {verb} subject"] = question.replace("VERB", forms[verb])
    return found


def columns(table: str) -> dict[str, tuple[str, ...]]:
    """Read a table: a line each, cells apart by ``|``, the first is the key."""
    rows = [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]
    return {key: tuple(cells) for key, *cells in rows}
