"""Spanish: two genders, colours after the noun, a personal "a" before people and animals, opened questions."""

from __future__ import annotations

from adapterxl.miniature.facts import ANIMALS
from adapterxl.miniature.grammar import Language, columns, names, verb_templates

_NAMES = {
    "anna": "Ana", "maria": "María", "clara": "Clara", "nina": "Nina", "julia": "Julia", "daniel": "Daniel",
    "martin": "Martín", "viktor": "Víctor", "robert": "Roberto", "anton": "Antón", "lena moreno": "Lena Moreno",
    "eva rossi": "Eva Rossi", "david rossi": "David Rossi", "thomas moreno": "Tomás Moreno",
}  # fmt: skip
_NOUNS = columns("""
dog | m | perro
cat | m | gato
horse | m | caballo
cow | f | vaca
mouse | m | ratón
bird | m | pájaro
duck | m | pato
rabbit | m | conejo
goat | f | cabra
tiger | m | tigre
book | m | libro
key | f | llave
lamp | f | lámpara
letter | f | carta
bag | f | bolsa
cup | f | taza
box | f | caja
ball | f | pelota
hat | m | sombrero
map | m | mapa
apple | f | manzana
chair | f | silla
table | f | mesa
coat | m | abrigo
bottle | f | botella
camera | f | cámara
kitchen | f | cocina
garden | m | jardín
school | f | escuela
park | m | parque
market | m | mercado
library | f | biblioteca
hospital | m | hospital
museum | m | museo
office | f | oficina
restaurant | m | restaurante
church | f | iglesia
forest | m | bosque
station | f | estación
theatre | m | teatro
""")
_CITIES = {
    "london": "Londres", "berlin": "Berlín", "madrid": "Madrid", "moscow": "Moscú", "ankara": "Ankara",
    "beijing": "Pekín", "paris": "París", "rome": "Roma", "vienna": "Viena", "cairo": "El Cairo",
    "new york": "Nueva York", "tokyo": "Tokio",
}  # fmt: skip
_COLOURS = {
    "red": ("rojo", "roja"), "blue": ("azul", "azul"), "green": ("verde", "verde"), "white": ("blanco", "blanca"),
    "black": ("negro", "negra"), "yellow": ("amarillo", "amarilla"), "new": ("nuevo", "nueva"),
    "old": ("viejo", "vieja"),
}  # fmt: skip
# Masculine and feminine; age is "mayor" and "menor", without "más".
_COMPARATIVES = {
    "bigger": ("grande", "grande"), "smaller": ("pequeño", "pequeña"), "heavier": ("pesado", "pesada"),
    "lighter": ("ligero", "ligera"), "faster": ("rápido", "rápida"), "slower": ("lento", "lenta"),
}  # fmt: skip


def _phrase(thing: str, form: str, colour: str | None) -> str:
    if form in _COMPARATIVES:
        feminine = thing in _NOUNS and _NOUNS[thing][0] == "f"
        return f"{_COMPARATIVES[form][feminine]}/ADJ"
    if thing in _NAMES:
        return ("a/ADP " if form in ("acc", "dat") else "") + names(_NAMES[thing], "PER")
    if thing in _CITIES:
        return f"en/ADP {names(_CITIES[thing], 'LOC')}"
    if thing not in _NOUNS:
        brand, kind = thing.split()
        name = f"Banco {brand.title()}" if kind == "bank" else f"Hotel {_CITIES[brand].removeprefix('El ')}"
        return f"en/ADP el/DET {names(name, 'ORG')}"
    gender, noun = _NOUNS[thing]
    if colour is not None:
        return f"{'un' if gender == 'm' else 'una'}/DET {noun}/NOUN {_COLOURS[colour][gender == 'f']}/ADJ"
    article = "el" if gender == "m" else "la"
    if form == "in":
        return f"en/ADP {article}/DET {noun}/NOUN"
    if form == "de":
        return f"{'del/ADP' if gender == 'm' else 'de/ADP la/DET'} {noun}/NOUN"
    if form == "acc" and thing in ANIMALS:
        return f"{'al/ADP' if gender == 'm' else 'a/ADP la/DET'} {noun}/NOUN"
    return f"{article}/DET {noun}/NOUN"


def _compare(relation: str) -> dict[str, str]:
    return {relation: f"{{subject}} es/AUX más/ADV {{subject.{relation}}} que/SCONJ {{object}}"}


LANGUAGE = Language(
    code="es",
    templates={
        "at": "{subject} está/AUX {object.in}",
        "not at": "{subject} no/ADV está/AUX {object.in}",
        "ask at object": "dónde/ADV está/AUX {subject}",
        "ask at subject": "quién/PRON está/AUX {object.in}",
        "lives": "{subject} vive/VERB {object}",
        "ask lives object": "dónde/ADV vive/VERB {subject}",
        "ask lives subject": "quién/PRON vive/VERB {object}",
        "works": "{subject} trabaja/VERB {object}",
        "ask works object": "dónde/ADV trabaja/VERB {subject}",
        "ask works subject": "quién/PRON trabaja/VERB {object}",
        "has": "{subject} tiene/VERB {object}",
        "ask has object": "qué/PRON tiene/VERB {subject}",
        "ask has subject": "quién/PRON tiene/VERB {object}",
        **_compare("bigger"), **_compare("smaller"), **_compare("heavier"), **_compare("lighter"),
        **_compare("faster"), **_compare("slower"),
        "older": "{subject} es/AUX mayor/ADJ que/SCONJ {object}",
        "younger": "{subject} es/AUX menor/ADJ que/SCONJ {object}",
        "behind": "{subject} está/AUX detrás/ADV {object.de}",
        "ask behind subject": "qué/PRON hay/VERB detrás/ADV {object.de}",
        "in front": "{subject} está/AUX delante/ADV {object.de}",
        "ask in front subject": "qué/PRON hay/VERB delante/ADV {object.de}",
        "gives": "{subject} le/PRON da/VERB {object} {third.dat}",
        "ask gives subject": "quién/PRON le/PRON da/VERB {object} {third.dat}",
        "ask gives third": "quién/PRON recibe/VERB {object}",
        "gets": "{subject} recibe/VERB {object} de/ADP {third}",
        "ask gets subject": "quién/PRON recibe/VERB {object}",
        "ask gets third": "quién/PRON le/PRON da/VERB {object} {subject.dat}",
        **verb_templates("{subject} VERB {object.acc}", "quién/PRON VERB {object.acc}", {
            "sees": "ve/VERB", "loves": "ama/VERB", "seeks": "busca/VERB", "finds": "encuentra/VERB",
            "buys": "compra/VERB",
        }),
    },
    phrase=_phrase,
    adverbs={"today": "hoy/ADV", "now": "ahora/ADV"},
    verdicts={"entailment": "Verdadero/ADJ", "contradiction": "Falso/ADJ", "neutral": "Desconocido/ADJ"},
    joint="y/CCONJ",
    ask=("¿/PUNCT", "?/PUNCT"),
)  # fmt: skip
