"""German: three genders, case on articles and adjectives, the verb in second place."""

from __future__ import annotations

from adapterxl.miniature.facts import PERSONS
from adapterxl.miniature.grammar import Language, columns, names, verb_templates

_NAMES = {"clara": "Klara"}
# Gender and noun; no noun here changes with case in the singular.
_NOUNS = columns("""
dog | m | Hund
cat | f | Katze
horse | n | Pferd
cow | f | Kuh
mouse | f | Maus
bird | m | Vogel
duck | f | Ente
rabbit | n | Kaninchen
goat | f | Ziege
tiger | m | Tiger
book | n | Buch
key | m | Schlüssel
lamp | f | Lampe
letter | m | Brief
bag | f | Tasche
cup | f | Tasse
box | f | Kiste
ball | m | Ball
hat | m | Hut
map | f | Karte
apple | m | Apfel
chair | m | Stuhl
table | m | Tisch
coat | m | Mantel
bottle | f | Flasche
camera | f | Kamera
""")
_PLACES = {
    "kitchen": "in/ADP der/DET Küche/NOUN", "garden": "im/ADP Garten/NOUN", "school": "in/ADP der/DET Schule/NOUN",
    "park": "im/ADP Park/NOUN", "market": "auf/ADP dem/DET Markt/NOUN", "library": "in/ADP der/DET Bibliothek/NOUN",
    "hospital": "im/ADP Krankenhaus/NOUN", "museum": "im/ADP Museum/NOUN", "office": "im/ADP Büro/NOUN",
    "restaurant": "im/ADP Restaurant/NOUN", "church": "in/ADP der/DET Kirche/NOUN", "forest": "im/ADP Wald/NOUN",
    "station": "am/ADP Bahnhof/NOUN", "theatre": "im/ADP Theater/NOUN",
}  # fmt: skip
_CITIES = {
    "london": "London", "berlin": "Berlin", "madrid": "Madrid", "moscow": "Moskau", "ankara": "Ankara",
    "beijing": "Peking", "paris": "Paris", "rome": "Rom", "vienna": "Wien", "cairo": "Kairo",
    "new york": "New York", "tokyo": "Tokio",
}  # fmt: skip
_COLOURS = {
    "red": "rot", "blue": "blau", "green": "grün", "white": "weiß", "black": "schwarz", "yellow": "gelb",
    "new": "neu", "old": "alt",
}  # fmt: skip
_THE = {"nom": {"m": "der", "f": "die", "n": "das"}, "acc": {"m": "den", "f": "die", "n": "das"},
        "dat": {"m": "dem", "f": "der", "n": "dem"}}  # fmt: skip
# Accusative, the only case in which colours occur.
_A = {"m": ("einen", "en"), "f": ("eine", "e"), "n": ("ein", "es")}


def _phrase(thing: str, form: str, colour: str | None) -> str:
    if thing in PERSONS:
        return names(_NAMES.get(thing, thing.title()), "PER")
    if thing in _CITIES:
        return f"in/ADP {names(_CITIES[thing], 'LOC')}"
    if thing in _PLACES:
        return _PLACES[thing]
    if thing not in _NOUNS:
        brand, kind = thing.split()
        if kind == "bank":
            return f"bei/ADP der/DET {names(f'{brand.title()} Bank', 'ORG')}"
        return f"im/ADP {names(f'Hotel {_CITIES[brand]}', 'ORG')}"
    gender, noun = _NOUNS[thing]
    if colour is not None:
        article, ending = _A[gender]
        return f"{article}/DET {_COLOURS[colour]}{ending}/ADJ {noun}/NOUN"
    return f"{_THE[form][gender]}/DET {noun}/NOUN"


def _compare(relation: str, word: str) -> dict[str, str]:
    return {relation: f"{{subject}} ist/AUX {word}/ADJ als/ADP {{object}}"}


LANGUAGE = Language(
    code="de",
    templates={
        "at": "{subject} ist/AUX {object.in}",
        "not at": "{subject} ist/AUX nicht/PART {object.in}",
        "ask at object": "Wo/ADV ist/AUX {subject}",
        "ask at subject": "Wer/PRON ist/AUX {object.in}",
        "lives": "{subject} wohnt/VERB {object}",
        "ask lives object": "Wo/ADV wohnt/VERB {subject}",
        "ask lives subject": "Wer/PRON wohnt/VERB {object}",
        "works": "{subject} arbeitet/VERB {object}",
        "ask works object": "Wo/ADV arbeitet/VERB {subject}",
        "ask works subject": "Wer/PRON arbeitet/VERB {object}",
        "has": "{subject} hat/VERB {object}",
        "ask has object": "Was/PRON hat/VERB {subject}",
        "ask has subject": "Wer/PRON hat/VERB {object}",
        **_compare("bigger", "größer"), **_compare("smaller", "kleiner"), **_compare("heavier", "schwerer"),
        **_compare("lighter", "leichter"), **_compare("faster", "schneller"), **_compare("slower", "langsamer"),
        **_compare("older", "älter"), **_compare("younger", "jünger"),
        "behind": "{subject} ist/AUX hinter/ADP {object.dat}",
        "ask behind subject": "Was/PRON ist/AUX hinter/ADP {object.dat}",
        "in front": "{subject} ist/AUX vor/ADP {object.dat}",
        "ask in front subject": "Was/PRON ist/AUX vor/ADP {object.dat}",
        "gives": "{subject} gibt/VERB {third} {object.acc}",
        "ask gives subject": "Wer/PRON gibt/VERB {third} {object.acc}",
        "ask gives third": "Wer/PRON bekommt/VERB {object.acc}",
        "gets": "{subject} bekommt/VERB {object.acc} von/ADP {third}",
        "ask gets subject": "Wer/PRON bekommt/VERB {object.acc}",
        "ask gets third": "Wer/PRON gibt/VERB {subject} {object.acc}",
        **verb_templates("{subject} VERB {object.acc}", "Wer/PRON VERB {object.acc}", {
            "sees": "sieht/VERB", "loves": "liebt/VERB", "seeks": "sucht/VERB", "finds": "findet/VERB",
            "buys": "kauft/VERB",
        }),
    },
    phrase=_phrase,
    adverbs={"today": "heute/ADV", "now": "jetzt/ADV"},
    verdicts={"entailment": "Wahr/ADJ", "contradiction": "Falsch/ADJ", "neutral": "Unbekannt/ADJ"},
    joint="und/CCONJ",
    verb_second=True,
)  # fmt: skip
