"""Russian: Cyrillic, six cases of which five occur, three genders, no articles and no "is"."""

from __future__ import annotations

from adapterxl.miniature.grammar import Language, columns, names, verb_templates

# Nominative | genitive | dative | accusative.
_NAMES = columns("""
anna | Анна | Анны | Анне | Анну
maria | Мария | Марии | Марии | Марию
clara | Клара | Клары | Кларе | Клару
nina | Нина | Нины | Нине | Нину
julia | Юлия | Юлии | Юлии | Юлию
daniel | Даниэль | Даниэля | Даниэлю | Даниэля
martin | Мартин | Мартина | Мартину | Мартина
viktor | Виктор | Виктора | Виктору | Виктора
robert | Роберт | Роберта | Роберту | Роберта
anton | Антон | Антона | Антону | Антона
lena moreno | Лена Морено | Лены Морено | Лене Морено | Лену Морено
eva rossi | Ева Росси | Евы Росси | Еве Росси | Еву Росси
david rossi | Давид Росси | Давида Росси | Давиду Росси | Давида Росси
thomas moreno | Томас Морено | Томаса Морено | Томасу Морено | Томаса Морено
""")
_CASES = ("nom", "gen", "dat", "acc")
# Gender | nominative | accusative | instrumental.
_NOUNS = columns("""
dog | f | собака | собаку | собакой
cat | f | кошка | кошку | кошкой
horse | f | лошадь | лошадь | лошадью
cow | f | корова | корову | коровой
mouse | f | мышь | мышь | мышью
bird | f | птица | птицу | птицей
duck | f | утка | утку | уткой
rabbit | m | кролик | кролика | кроликом
goat | f | коза | козу | козой
tiger | m | тигр | тигра | тигром
book | f | книга | книгу | книгой
key | m | ключ | ключ | ключом
lamp | f | лампа | лампу | лампой
letter | n | письмо | письмо | письмом
bag | f | сумка | сумку | сумкой
cup | f | чашка | чашку | чашкой
box | f | коробка | коробку | коробкой
ball | m | мяч | мяч | мячом
hat | f | шляпа | шляпу | шляпой
map | f | карта | карту | картой
apple | n | яблоко | яблоко | яблоком
chair | m | стул | стул | стулом
table | m | стол | стол | столом
coat | n | пальто | пальто | пальто
bottle | f | бутылка | бутылку | бутылкой
camera | f | камера | камеру | камерой
""")
_NOUN_CASES = ("nom", "acc", "ins")
_PLACES = {
    "kitchen": "на/ADP кухне/NOUN", "garden": "в/ADP саду/NOUN", "school": "в/ADP школе/NOUN",
    "park": "в/ADP парке/NOUN", "market": "на/ADP рынке/NOUN", "library": "в/ADP библиотеке/NOUN",
    "hospital": "в/ADP больнице/NOUN", "museum": "в/ADP музее/NOUN", "office": "в/ADP офисе/NOUN",
    "restaurant": "в/ADP ресторане/NOUN", "church": "в/ADP церкви/NOUN", "forest": "в/ADP лесу/NOUN",
    "station": "на/ADP вокзале/NOUN", "theatre": "в/ADP театре/NOUN",
}  # fmt: skip
# Prepositional | nominative, which a hotel's name keeps.
_CITIES = columns("""
london | Лондоне | Лондон
berlin | Берлине | Берлин
madrid | Мадриде | Мадрид
moscow | Москве | Москва
ankara | Анкаре | Анкара
beijing | Пекине | Пекин
paris | Париже | Париж
rome | Риме | Рим
vienna | Вене | Вена
cairo | Каире | Каир
new york | Нью-Йорке | Нью-Йорк
tokyo | Токио | Токио
""")
_BRANDS = {"nova": "Нова", "orion": "Орион", "delta": "Дельта", "sigma": "Сигма"}
# Nominative, the only case in which colours occur: masculine | feminine | neuter.
_COLOURS = columns("""
red | красный | красная | красное
blue | синий | синяя | синее
green | зелёный | зелёная | зелёное
white | белый | белая | белое
black | чёрный | чёрная | чёрное
yellow | жёлтый | жёлтая | жёлтое
new | новый | новая | новое
old | старый | старая | старое
""")


def _phrase(thing: str, form: str, colour: str | None) -> str:
    if thing in _NAMES:
        return names(_NAMES[thing][_CASES.index(form)], "PER")
    if thing in _CITIES:
        return f"в/ADP {names(_CITIES[thing][0], 'LOC')}"
    if thing in _PLACES:
        return _PLACES[thing]
    if thing not in _NOUNS:
        brand, kind = thing.split()
        name = f"банке {_BRANDS[brand]}" if kind == "bank" else f"отеле {_CITIES[brand][1]}"
        return f"в/ADP {names(name, 'ORG').replace('PROPN', 'NOUN', 1)}"  # "bank" and "hotel" are plain nouns
    gender, *cases = _NOUNS[thing]
    noun = f"{cases[_NOUN_CASES.index(form)]}/NOUN"
    return noun if colour is None else f"{_COLOURS[colour]['mfn'.index(gender)]}/ADJ {noun}"


def _compare(relation: str, word: str) -> dict[str, str]:
    return {relation: f"{{subject}} {word}/ADJ ,/PUNCT чем/SCONJ {{object}}"}


LANGUAGE = Language(
    code="ru",
    templates={
        "at": "{subject} {object.in}",
        "not at": "{subject} не/PART {object.in}",
        "ask at object": "где/ADV {subject}",
        "ask at subject": "кто/PRON {object.in}",
        "lives": "{subject} живёт/VERB {object}",
        "ask lives object": "где/ADV живёт/VERB {subject}",
        "ask lives subject": "кто/PRON живёт/VERB {object}",
        "works": "{subject} работает/VERB {object}",
        "ask works object": "где/ADV работает/VERB {subject}",
        "ask works subject": "кто/PRON работает/VERB {object}",
        "has": "у/ADP {subject.gen} есть/VERB {object}",
        "ask has object": "что/PRON есть/VERB у/ADP {subject.gen}",
        "ask has subject": "у/ADP кого/PRON есть/VERB {object}",
        **_compare("bigger", "больше"), **_compare("smaller", "меньше"), **_compare("heavier", "тяжелее"),
        **_compare("lighter", "легче"), **_compare("faster", "быстрее"), **_compare("slower", "медленнее"),
        **_compare("older", "старше"), **_compare("younger", "моложе"),
        "behind": "{subject} за/ADP {object.ins}",
        "ask behind subject": "что/PRON за/ADP {object.ins}",
        "in front": "{subject} перед/ADP {object.ins}",
        "ask in front subject": "что/PRON перед/ADP {object.ins}",
        "gives": "{subject} даёт/VERB {third.dat} {object.acc}",
        "ask gives subject": "кто/PRON даёт/VERB {third.dat} {object.acc}",
        "ask gives third": "кто/PRON получает/VERB {object.acc}",
        "gets": "{subject} получает/VERB {object.acc} от/ADP {third.gen}",
        "ask gets subject": "кто/PRON получает/VERB {object.acc}",
        "ask gets third": "кто/PRON даёт/VERB {subject.dat} {object.acc}",
        **verb_templates("{subject} VERB {object.acc}", "кто/PRON VERB {object.acc}", {
            "sees": "видит/VERB", "loves": "любит/VERB", "seeks": "ищет/VERB", "finds": "находит/VERB",
            "buys": "покупает/VERB",
        }),
    },
    phrase=_phrase,
    adverbs={"today": "сегодня/ADV", "now": "сейчас/ADV"},
    verdicts={"entailment": "Верно/ADJ", "contradiction": "Неверно/ADJ", "neutral": "Неизвестно/ADJ"},
    joint=",/PUNCT а/CCONJ",
)  # fmt: skip
