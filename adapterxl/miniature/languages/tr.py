"""Turkish: the verb comes last, case and possession are suffixes that follow the vowels, no articles."""

from __future__ import annotations

from adapterxl.miniature.grammar import Language, columns, names, verb_templates

# Written name | genitive | dative | accusative | ablative, the suffix after an apostrophe.
_NAMES = columns("""
anna | Anna | nın | ya | yı | dan
maria | Maria | nın | ya | yı | dan
clara | Clara | nın | ya | yı | dan
nina | Nina | nın | ya | yı | dan
julia | Julia | nın | ya | yı | dan
daniel | Daniel | in | e | i | den
martin | Martin | in | e | i | den
viktor | Viktor | un | a | u | dan
robert | Robert | in | e | i | ten
anton | Anton | un | a | u | dan
lena moreno | Lena Moreno | nun | ya | yu | dan
eva rossi | Eva Rossi | nin | ye | yi | den
david rossi | David Rossi | nin | ye | yi | den
thomas moreno | Thomas Moreno | nun | ya | yu | dan
""")
_CASES = ("nom", "gen", "dat", "acc", "abl")
# Nominative | genitive | accusative | ablative | possessed ("her ...").
_NOUNS = columns("""
dog | köpek | köpeğin | köpeği | köpekten | köpeği
cat | kedi | kedinin | kediyi | kediden | kedisi
horse | at | atın | atı | attan | atı
cow | inek | ineğin | ineği | inekten | ineği
mouse | fare | farenin | fareyi | fareden | faresi
bird | kuş | kuşun | kuşu | kuştan | kuşu
duck | ördek | ördeğin | ördeği | ördekten | ördeği
rabbit | tavşan | tavşanın | tavşanı | tavşandan | tavşanı
goat | keçi | keçinin | keçiyi | keçiden | keçisi
tiger | kaplan | kaplanın | kaplanı | kaplandan | kaplanı
book | kitap | kitabın | kitabı | kitaptan | kitabı
key | anahtar | anahtarın | anahtarı | anahtardan | anahtarı
lamp | lamba | lambanın | lambayı | lambadan | lambası
letter | mektup | mektubun | mektubu | mektuptan | mektubu
bag | çanta | çantanın | çantayı | çantadan | çantası
cup | fincan | fincanın | fincanı | fincandan | fincanı
box | kutu | kutunun | kutuyu | kutudan | kutusu
ball | top | topun | topu | toptan | topu
hat | şapka | şapkanın | şapkayı | şapkadan | şapkası
map | harita | haritanın | haritayı | haritadan | haritası
apple | elma | elmanın | elmayı | elmadan | elması
chair | sandalye | sandalyenin | sandalyeyi | sandalyeden | sandalyesi
table | masa | masanın | masayı | masadan | masası
coat | palto | paltonun | paltoyu | paltodan | paltosu
bottle | şişe | şişenin | şişeyi | şişeden | şişesi
camera | kamera | kameranın | kamerayı | kameradan | kamerası
""")
_NOUN_CASES = ("nom", "gen", "acc", "abl", "poss")
_PLACES = {
    "kitchen": "mutfakta", "garden": "bahçede", "school": "okulda", "park": "parkta", "market": "pazarda",
    "library": "kütüphanede", "hospital": "hastanede", "museum": "müzede", "office": "ofiste",
    "restaurant": "restoranda", "church": "kilisede", "forest": "ormanda", "station": "istasyonda",
    "theatre": "tiyatroda",
}  # fmt: skip
# With the locative suffix.
_CITIES = {
    "london": "Londra'da", "berlin": "Berlin'de", "madrid": "Madrid'de", "moscow": "Moskova'da",
    "ankara": "Ankara'da", "beijing": "Pekin'de", "paris": "Paris'te", "rome": "Roma'da", "vienna": "Viyana'da",
    "cairo": "Kahire'de", "new york": "New York'ta", "tokyo": "Tokyo'da",
}  # fmt: skip
_COLOURS = {
    "red": "kırmızı", "blue": "mavi", "green": "yeşil", "white": "beyaz", "black": "siyah", "yellow": "sarı",
    "new": "yeni", "old": "eski",
}  # fmt: skip


def _phrase(thing: str, form: str, colour: str | None) -> str:
    if thing in _NAMES:
        name, *suffixes = _NAMES[thing]
        case = _CASES.index(form)
        return names(name if case == 0 else f"{name}'{suffixes[case - 1]}", "PER")
    if thing in _CITIES:
        return names(_CITIES[thing], "LOC")
    if thing in _PLACES:
        return f"{_PLACES[thing]}/NOUN"
    if thing not in _NOUNS:
        brand, kind = thing.split()
        city = _CITIES.get(brand, "").partition("'")[0]
        return names(f"{brand.title()} Bankası'nda" if kind == "bank" else f"{city} Oteli'nde", "ORG")
    noun = f"{_NOUNS[thing][_NOUN_CASES.index(form)]}/NOUN"
    return noun if colour is None else f"{_COLOURS[colour]}/ADJ bir/DET {noun}"


def _capital(letter: str) -> str:
    return "İ" if letter == "i" else letter.upper()


def _compare(relation: str, word: str) -> dict[str, str]:
    return {relation: f"{{subject}} {{object.abl}} daha/ADV {word}/ADJ"}


LANGUAGE = Language(
    code="tr",
    templates={
        "at": "{subject} {object.in}",
        "not at": "{subject} {object.in} değil/AUX",
        "ask at object": "{subject} nerede/ADV",
        "ask at subject": "{object.in} kim/PRON var/VERB",
        "lives": "{subject} {object} yaşıyor/VERB",
        "ask lives object": "{subject} nerede/ADV yaşıyor/VERB",
        "ask lives subject": "{object} kim/PRON yaşıyor/VERB",
        "works": "{subject} {object} çalışıyor/VERB",
        "ask works object": "{subject} nerede/ADV çalışıyor/VERB",
        "ask works subject": "{object} kim/PRON çalışıyor/VERB",
        "has": "{subject.gen} {object.poss} var/VERB",
        "ask has object": "{subject.gen} neyi/PRON var/VERB",
        "ask has subject": "kimin/PRON {object.poss} var/VERB",
        **_compare("bigger", "büyük"), **_compare("smaller", "küçük"), **_compare("heavier", "ağır"),
        **_compare("lighter", "hafif"), **_compare("faster", "hızlı"), **_compare("slower", "yavaş"),
        **_compare("older", "yaşlı"), **_compare("younger", "genç"),
        "behind": "{subject} {object.gen} arkasında/NOUN",
        "ask behind subject": "{object.gen} arkasında/NOUN ne/PRON var/VERB",
        "in front": "{subject} {object.gen} önünde/NOUN",
        "ask in front subject": "{object.gen} önünde/NOUN ne/PRON var/VERB",
        "gives": "{subject} {object.acc} {third.dat} veriyor/VERB",
        "ask gives subject": "{object.acc} {third.dat} kim/PRON veriyor/VERB",
        "ask gives third": "{object.acc} kim/PRON alıyor/VERB",
        "gets": "{subject} {object.acc} {third.abl} alıyor/VERB",
        "ask gets subject": "{object.acc} kim/PRON alıyor/VERB",
        "ask gets third": "{object.acc} {subject.dat} kim/PRON veriyor/VERB",
        **verb_templates("{subject} {object.acc} VERB", "{object.acc} kim/PRON VERB", {
            "sees": "görüyor/VERB", "loves": "seviyor/VERB", "seeks": "arıyor/VERB", "finds": "buluyor/VERB",
            "buys": "satın/NOUN alıyor/VERB",
        }),
    },
    phrase=_phrase,
    adverbs={"today": "bugün/ADV", "now": "şimdi/ADV"},
    verdicts={"entailment": "Doğru/ADJ", "contradiction": "Yanlış/ADJ", "neutral": "Bilinmiyor/VERB"},
    joint="ve/CCONJ",
    capital=_capital,
)  # fmt: skip
