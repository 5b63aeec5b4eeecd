"""Code-switching replaces what the lexicon knows, and labels, tags and answers stay with what they are about."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapterxl.data.augment import read_augmentations
from adapterxl.data.augment.codeswitch import CodeSwitch, Switcher, checked
from adapterxl.data.examples import (
    ChoiceExample,
    ClassifyExample,
    Example,
    SpanExample,
    TagExample,
    TextExample,
)
from adapterxl.data.lexicon import Lexicon
from adapterxl.errors import DataError, UsageError
from adapterxl.tasks import get_task

WORDS = {
    "dog": ("Hund",), "the": ("der",), "big": ("groß",), "lives": ("lebt",), "york": ("Jork",),
    "library": ("die Bücherei",),
}  # fmt: skip
HAN = {"dog": ("狗",), "the": ("这",), "big": ("大",), "lives": ("住",)}


def switcher(words: Any, task: str = "panx", ratio: float = 1.0, seed: int = 1) -> Switcher:
    lexicons = {language: Lexicon(language, known, "0" * 64) for language, known in words.items()}
    return Switcher(lexicons, ratio, get_task(task), seed)


def one(row: Example, words: Any, task: str = "panx", **how: Any) -> Any:
    return switcher(words, task, **how).copies_of(row, 1, False)[0]


def test_words_keep_their_case_and_what_is_around_them() -> None:
    row = TextExample("1", "en", "The DOG, \"big\"  dog-house (don't) — dog's!")
    assert one(row, {"de": WORDS}).text == "Der HUND, \"groß\"  Hund-house (don't) — dog's!"


def test_words_of_a_script_without_spaces_are_joined_to_each_other_and_to_nothing_else() -> None:
    text = "A big dog lives here. Big dog, the  dog"
    assert one(TextExample("1", "en", text), {"zh": HAN}).text == "A 大狗住 here. 大狗, 这  狗"


def test_all_texts_of_a_row_are_switched_and_its_label_stays() -> None:
    pair = one(ClassifyExample("1", "en", "the dog", "big dog", 2), {"de": WORDS}, "mnli")
    assert (pair.text, pair.text_pair, pair.label) == ("der Hund", "groß Hund", 2)
    single = one(ClassifyExample("1", "en", "the dog", None, 0), {"de": WORDS}, "mnli")
    assert (single.text, single.text_pair) == ("der Hund", None)
    choice = one(ChoiceExample("1", "en", "the dog", "big?", ("dog", "no"), 1), {"de": WORDS}, "copa")
    assert choice == ChoiceExample("1", "en", "der Hund", "groß?", ("Hund", "no"), 1)


def test_a_translation_of_several_words_continues_the_tag_of_its_word() -> None:
    labels = list(get_task("panx").labels)
    tags = tuple(map(labels.index, ("O", "B-ORG", "I-ORG", "B-ORG", "O")))
    row = TagExample("1", "en", ("the", "Library", "library", "York", "."), tags)
    found = one(row, {"de": WORDS})
    assert found.words == ("der", "Die", "Bücherei", "die", "Bücherei", "Jork", ".")
    assert [labels[tag] for tag in found.tags] == ["O", "B-ORG", "I-ORG", "I-ORG", "I-ORG", "B-ORG", "O"]
    noun = get_task("udpos").labels.index("NOUN")
    assert one(TagExample("1", "en", ("library",), (noun,)), {"de": WORDS}, "udpos").tags == (noun, noun)


@pytest.mark.parametrize("words", [{"de": WORDS}, {"zh": HAN}])
def test_answers_move_with_their_words(words: Any) -> None:
    text = "The big dog lives. the dog"
    row = SpanExample("1", "en", text, "big?", (("big dog", 4), ("dog lives", 8), ("The big", 0), ("the dog", 19)))
    found = one(row, words, "squad")
    golds = ["groß Hund", "Hund lebt", "Der groß", "der Hund"] if "de" in words else ["大狗", "狗住", "这大", "这狗"]
    assert [answer for answer, _ in found.answers] == golds
    assert all(found.context[start : start + len(answer)] == answer for answer, start in found.answers)


def test_a_word_that_an_answer_cuts_in_two_stays() -> None:
    found = one(
        SpanExample("1", "en", "big big dogbig", "?", (("ig", 1), ("dog", 8))), {"de": WORDS | {"dogbig": ("x",)}}
    )
    assert found.context == "big groß dogbig" and found.answers == (("ig", 1), ("dog", 9))


def test_a_row_without_an_answer_has_none_afterwards() -> None:
    found = one(SpanExample("1", "en", "the dog", "big?", ()), {"de": WORDS}, "squad_v2")
    assert (found.context, found.question, found.answers) == ("der Hund", "groß?", ())


def test_an_answer_that_stands_elsewhere_is_never_let_through() -> None:
    with pytest.raises(DataError, match="answer 'dog' does not stand at character 1"):
        checked(SpanExample("1", "en", "dog", "?", (("dog", 1),)))


_LETTERS = {chr(97 + n): chr(0x4E00 + n) for n in range(4)}
_THREE = st.text(alphabet="abcd", min_size=3, max_size=3)


@settings(max_examples=150, deadline=None)
@given(st.lists(_THREE, min_size=1, max_size=12), st.data(), st.sampled_from(["de", "zh", "both"]), st.floats(0.1, 1.0))
def test_a_switched_answer_says_what_the_answer_said(words: list[str], data: Any, kind: str, ratio: float) -> None:
    """Translations here can be read back, so that every answer is compared with what it was, wherever it stands."""
    glue = [data.draw(st.sampled_from([" ", ", ", "-", "  ", ' "', ". "])) for _ in words]
    text = "".join(word + space for word, space in zip(words, glue, strict=True))
    begin = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(begin + 1, len(text)))
    if not text[begin:end].strip():
        return
    answers = ((text[begin:end], begin),)
    german = {word: (f"<{word}>",) for word in words}
    han = {word: ("".join(_LETTERS[letter] for letter in word),) for word in words}
    lexicons = {"de": {"de": german}, "zh": {"zh": han}, "both": {"de": german, "zh": han}}[kind]
    found = one(SpanExample("1", "en", text, "?", answers), lexicons, "squad", ratio=ratio)
    answer, start = found.answers[0]
    assert found.context[start : start + len(answer)] == answer

    def read_back(switched: str) -> str:
        spaced = re.sub(r"([\u4e00-\u4e03]{3})(?=[\u4e00-\u4e03])", r"\1 ", switched)
        back = {han: latin for latin, han in _LETTERS.items()}
        return "".join(back.get(letter, letter) for letter in spaced.replace("<", "").replace(">", ""))

    # A space at an end of the answer is gone where it stood between words that are written without one.
    assert read_back(found.context) == text and read_back(answer).strip() == text[begin:end].strip()


def test_each_word_is_drawn_by_itself_with_the_ratio_and_any_language() -> None:
    row = TextExample("1", "en", "dog " * 4000)
    found = one(row, {"de": WORDS, "zh": HAN}, ratio=0.3).text
    switched = found.count("Hund"), found.count("狗")
    assert abs(sum(switched) / 4000 - 0.3) < 0.03 and abs(switched[0] / sum(switched) - 0.5) < 0.06


def test_the_seed_and_the_row_decide_and_neither_order_nor_other_rows_do() -> None:
    rows = [TextExample(str(n), "en", "the big dog lives in the library " * 3) for n in range(5)]
    first = [one(row, {"de": WORDS, "zh": HAN}, ratio=0.5).text for row in rows]
    again = [one(row, {"de": WORDS, "zh": HAN}, ratio=0.5).text for row in reversed(rows)][::-1]
    assert first == again and len(set(first)) == 5
    assert first != [one(row, {"de": WORDS, "zh": HAN}, ratio=0.5, seed=2).text for row in rows]


def test_copies_differ_and_stand_beside_the_row_only_where_it_is_kept() -> None:
    row, empty = TextExample("a", "en", "the big dog lives " * 4), TextExample("b", "en", "nothing known")
    words = {"de": WORDS, "zh": HAN}
    both = switcher(words, ratio=0.5)
    kept = both.copies_of(row, 3, True)
    assert kept[0] is row and [each.id for each in kept] == ["a", "a~1", "a~2", "a~3"]
    assert len({each.text for each in kept}) == 4  # type: ignore[union-attr]
    assert both.copies_of(empty, 3, True) == [empty] == both.copies_of(empty, 3, False)
    assert [each.id for each in both.copies_of(row, 2, False)] == ["a~1", "a~2"]
    assert [each.id for each in both.copies_of(row, 1, False)] == ["a"]


def test_what_was_done_is_counted_and_told(tmp_path: Path) -> None:
    (tmp_path / "en-de.tsv").write_text("dog\tHund\nthe\tder\n", encoding="utf-8")
    (tmp_path / "zh.txt").write_text("dog 狗\n", encoding="utf-8")
    texts = ["the dog", "nothing", "a dog", "dog"]
    rows = [TextExample(str(n), "en", text) for n, text in enumerate(texts)] + [TextExample("5", "de", "the dog")]
    apply = CodeSwitch(ratio=1.0, lexicon=tmp_path).begin(None)
    done = apply(rows, get_task("mnli"), 1)
    assert {name: value for name, value in done.facts.items() if isinstance(value, int)} == {
        "seed": 1, "rows": 5, "rows_changed": 3, "rows_without_known_word": 1, "rows_not_english": 1, "words": 6,
        "words_known": 4, "words_replaced": 4,
    }  # fmt: skip
    assert done.facts["operator"] == f"codeswitch(ratio=1.0, languages=[de, zh], lexicon={tmp_path.name})"
    assert set(done.files) == {f"lexicon {tmp_path.name}, de", f"lexicon {tmp_path.name}, zh"}
    said = "3 of 5 rows switched, 67% of their words; 1 hold no word of the lexicon, and stay; 1 are not in English"
    assert said in done.notes[0]
    none = apply([rows[1]], get_task("mnli"), 1)
    assert none.rows == (rows[1],) and "0 of 1 rows switched, 0% of their words; 1 hold no word" in none.notes[0]


def test_an_augmentation_is_a_value_with_a_text() -> None:
    text = 'codeswitch(ratio=0.3, languages=[de, zh], lexicon="my folder/x", copies=2, keep=true)'
    (read,) = read_augmentations(text)
    assert read == CodeSwitch(ratio=0.3, languages=("de", "zh"), lexicon="my folder/x", copies=2, keep=True)
    assert str(read) == text and read_augmentations([str(read)]) == (read,) == read_augmentations(read)
    assert read_augmentations("codeswitch(lexicon='a', languages=de)") == (CodeSwitch(lexicon="a", languages=("de",)),)
    assert read_augmentations(None) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("codeswich(lexicon=a)", "augment: 'codeswich' is not one of codeswitch, .*Did you mean 'codeswitch'"),
        ("codeswitch(lexicon=a", "augment: cannot read 'codeswitch"),
        ("codeswitch(lexicon a)", "augment: cannot read 'lexicon a'"),
        ("codeswitch(lexicon=a, lexicon=b)", "augment: cannot read 'lexicon=b' .*once each"),
        ("codeswitch(ratoi=1)", "codeswitch has no option 'ratoi'. Did you mean 'ratio'"),
        ("codeswitch(ratio=0, lexicon=a)", "codeswitch, ratio: found '0': Input should be greater than 0"),
        ("codeswitch(ratio=many, lexicon=a)", "codeswitch, ratio: found 'many'"),
        ("codeswitch(copies=0, lexicon=a)", "codeswitch, copies: found '0'"),
        ("codeswitch(languages=[], lexicon=a)", r"codeswitch, languages: found \(\)"),
        ("codeswitch(languages=[de, de], lexicon=a)", "codeswitch: languages: de, de: name each once"),
        ("codeswitch(ratio=0.5)", "codeswitch: found neither lexicon nor induced; name a folder"),
        ("codeswitch(lexicon=a, induced=tatoeba)", "codeswitch: found both lexicon and induced"),
        ("translated()", "translated, languages"),
    ],
)  # fmt: skip
def test_what_is_none_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_augmentations(text)


def test_an_operator_named_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="'codeswitch' is there twice"):
        read_augmentations(["codeswitch(lexicon=a)", "codeswitch(lexicon=b)"])


def test_switching_never_changes_the_global_generator() -> None:
    before = random.getstate()
    one(TextExample("1", "en", "the dog"), {"de": WORDS})
    assert random.getstate() == before
