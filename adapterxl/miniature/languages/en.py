"""English: subject, verb, object; articles; no case."""

from __future__ import annotations

from adapterxl.miniature.facts import CITIES, ORGANISATIONS, PERSONS
from adapterxl.miniature.grammar import Language, names, verb_templates

_PREPOSITION = {"market": "at", "station": "at"}
_NAMES = {"viktor": "Victor"}


def _phrase(thing: str, form: str, colour: str | None) -> str:
    if thing in PERSONS:
        return names(_NAMES.get(thing, thing.title()), "PER")
    if thing in CITIES:
        return f"in/ADP {names(thing.title(), 'LOC')}"
    if thing in ORGANISATIONS:
        article = "the/DET " if thing.endswith("hotel") else ""
        return f"at/ADP {article}{names(thing.title(), 'ORG')}"
    if form == "in":
        return f"{_PREPOSITION.get(thing, 'in')}/ADP the/DET {thing}/NOUN"
    if colour is not None:
        return f"{'an' if colour == 'old' else 'a'}/DET {colour}/ADJ {thing}/NOUN"
    return f"the/DET {thing}/NOUN"


def _compare(word: str) -> dict[str, str]:
    return {word: f"{{subject}} is/AUX {word}/ADJ than/ADP {{object}}"}


LANGUAGE = Language(
    code="en",
    templates={
        "at": "{subject} is/AUX {object.in}",
        "not at": "{subject} is/AUX not/PART {object.in}",
        "ask at object": "Where/ADV is/AUX {subject}",
        "ask at subject": "Who/PRON is/AUX {object.in}",
        "lives": "{subject} lives/VERB {object}",
        "ask lives object": "Where/ADV does/AUX {subject} live/VERB",
        "ask lives subject": "Who/PRON lives/VERB {object}",
        "works": "{subject} works/VERB {object}",
        "ask works object": "Where/ADV does/AUX {subject} work/VERB",
        "ask works subject": "Who/PRON works/VERB {object}",
        "has": "{subject} has/VERB {object}",
        "ask has object": "What/PRON does/AUX {subject} have/VERB",
        "ask has subject": "Who/PRON has/VERB {object}",
        **_compare("bigger"), **_compare("smaller"), **_compare("heavier"), **_compare("lighter"),
        **_compare("faster"), **_compare("slower"), **_compare("older"), **_compare("younger"),
        "behind": "{subject} is/AUX behind/ADP {object}",
        "ask behind subject": "What/PRON is/AUX behind/ADP {object}",
        "in front": "{subject} is/AUX in/ADP front/NOUN of/ADP {object}",
        "ask in front subject": "What/PRON is/AUX in/ADP front/NOUN of/ADP {object}",
        "gives": "{subject} gives/VERB {third} {object}",
        "ask gives subject": "Who/PRON gives/VERB {third} {object}",
        "ask gives third": "Who/PRON gets/VERB {object}",
        "gets": "{subject} gets/VERB {object} from/ADP {third}",
        "ask gets subject": "Who/PRON gets/VERB {object}",
        "ask gets third": "Who/PRON gives/VERB {subject} {object}",
        **verb_templates("{subject} VERB {object}", "Who/PRON VERB {object}", {
            "sees": "sees/VERB", "loves": "loves/VERB", "seeks": "looks/VERB for/ADP", "finds": "finds/VERB",
            "buys": "buys/VERB",
        }),
    },
    phrase=_phrase,
    adverbs={"today": "today/NOUN", "now": "now/ADV"},
    verdicts={"entailment": "True/ADJ", "contradiction": "False/ADJ", "neutral": "Unknown/ADJ"},
    joint="and/CCONJ",
)  # fmt: skip
