"""Tokenisers on captions written for these tests, and the vocabulary."""

import pytest

from pictell.data.text import (
    END,
    LANGUAGES,
    PAD,
    SPECIAL_WORDS,
    START,
    UNKNOWN,
    Vocabulary,
    get_tokenizer,
    same_text,
    scoring_units,
)
from pictell.errors import InputError

# Caption, and what COCO's Java tokeniser (pycocoevalcap 1.2) made of it, recorded once.
AS_COCO = [
    ("A dog runs .", "a dog runs"),
    ("A Dog runs.", "a dog runs"),
    ("The dog runs. The cat sleeps.", "the dog runs the cat sleeps"),
    ("The end..", "the end"),
    ('A sign that says "stop."', "a sign that says stop"),
    ('say "hi," he', "say hi he"),
    ("A sign that says 'stop'", "a sign that says stop"),
    ("A sign reading 'no parking here' on a wall", "a sign reading no parking here on a wall"),
    ("a 'dog'.", "a dog"),
    ("“A quoted” word", "a quoted word"),
    ("the man’s hat", "the man 's hat"),
    ("don’t go", "do n't go"),
    ("The dogs' toys are here.", "the dogs toys are here"),
    ("isn't the dog's.", "is n't the dog 's"),
    ("they'll say he'd go", "they 'll say he 'd go"),
    ("the '60s car", "the '60s car"),
    ("look at 'em go", "look at 'em go"),
    ("It's 5 o'clock.", "it 's 5 o'clock"),
    ("A man in Washington D.C. with a flag.", "a man in washington d.c. with a flag"),
    ("The U.S.", "the u.s."),
    ("The time is 10:30 a.m.", "the time is 10:30 a.m."),
    ("Mr. Smith and Mrs. Jones sit down.", "mr. smith and mrs. jones sit down"),
    ("5ft. tall", "5ft tall"),
    ("Wait... what?", "wait what"),
    ("a man runs...away", "a man runs away"),
    ("The man -- a runner - falls; slowly.", "the man a runner falls slowly"),
    ("-dog", "dog"),
    ("A t-shirt and a well-lit room.", "a t-shirt and a well-lit room"),
    ("two men ,one dog", "two men one dog"),
    ("Player #7 of 1,000", "player # 7 of 1,000"),
    ("A 50% off sign costs $5.00.", "a 50 % off sign costs $ 5.00"),
    ("A cannot and gonna thing.", "a can not and gon na thing"),
    ("A man and/or woman.", "a man and/or woman"),
    ("a café and naïve", "a café and naïve"),
    ("A   b\tc ", "a b c"),
    ("The dog jumps!", "the dog jumps"),
]


@pytest.mark.parametrize(("caption", "expected"), AS_COCO)
def test_english_words_are_those_of_coco(caption, expected):
    assert get_tokenizer("en").tokenize(caption) == expected.split()


@pytest.mark.parametrize(
    "caption", ["A dog (brown) runs.", "A dog [brown] runs", "a {dog brown} runs"]
)
def test_brackets_are_dropped(caption):
    # Here we leave COCO, whose list of punctuation misses the brackets once they are lower-cased.
    assert get_tokenizer("en").tokenize(caption) == ["a", "dog", "brown", "runs"]


@pytest.mark.parametrize("caption", ["", " ", ".", " ' . '' -- \" ... ?! ", "-", "()"])
def test_nothing_but_punctuation(caption):
    assert get_tokenizer("en").tokenize(caption) == []


@pytest.mark.parametrize(
    ("caption", "readable"),
    [
        ("A man's dog can't swim.", "a man's dog can't swim"),
        (
            "They're here, we've come: I'm sure he'd say it'll do.",
            "they're here we've come i'm sure he'd say it'll do",
        ),
        ("it is the dog's", "it is the dog's"),
        ("The 'red' dog", "the red dog"),
        ("cars of the '60s", "cars of the '60s"),
    ],
)
def test_english_is_joined_to_readable_text(caption, readable):
    tokenizer = get_tokenizer("en")
    assert tokenizer.join(tokenizer.tokenize(caption)) == readable


@pytest.mark.parametrize("caption", [caption for caption, _ in AS_COCO])
def test_joined_text_gives_the_same_words_again(caption):
    tokenizer = get_tokenizer("en")
    words = tokenizer.tokenize(caption)
    assert tokenizer.tokenize(tokenizer.join(words)) == words


CHINESE = "一只棕色的狗在草地上奔跑。"


def test_chinese_words():
    pytest.importorskip("rjieba")
    tokenizer = get_tokenizer("zh")
    words = tokenizer.tokenize(CHINESE)
    assert {"棕色", "狗", "奔跑"} <= set(words)
    assert tokenizer.join(words) == CHINESE.removesuffix("。")
    assert tokenizer.tokenize("“你好” —— ，！ ") == ["你好"]


def test_chinese_characters():
    tokenizer = get_tokenizer("zh-char")
    assert tokenizer.tokenize("两只狗，和 iPhone 12！") == ["两", "只", "狗", "和", "iphone", "12"]
    assert tokenizer.join(tokenizer.tokenize(CHINESE)) == CHINESE.removesuffix("。")


def test_a_chinese_text_is_scored_alike_whoever_wrote_it():
    pytest.importorskip("rjieba")
    words, characters = get_tokenizer("zh"), get_tokenizer("zh-char")
    oddly_cut = ["一", "只棕", "色", "的狗"]
    assert words.as_scored(oddly_cut) == words.tokenize("一只棕色的狗")
    assert words.as_scored(list("一只棕色的狗")) == words.as_scored(oddly_cut)
    assert characters.as_scored(oddly_cut) == list("一只棕色的狗")
    english = ["a", "dog", "'s", "do", "n't"]
    assert get_tokenizer("en").as_scored(english) == english


def test_units_of_scores():
    assert scoring_units("en") == {}
    assert scoring_units("zh") == scoring_units("zh-char") == {"word": "zh", "character": "zh-char"}
    assert same_text("zh", "zh-char") and same_text("en", "en") and not same_text("en", "zh")


def test_tokenisers_are_known_by_name():
    assert [get_tokenizer(language).name for language in LANGUAGES] == list(LANGUAGES)
    with pytest.raises(InputError, match="language 'fr'; known: en, zh, zh-char"):
        get_tokenizer("fr")


CAPTIONS = [["a", "dog", "and", "a", "cat"], ["a", "cat"], ["the", "dog"], ["zebra"]]


def test_vocabulary_order():
    # By falling count (a 3, cat 2, dog 2, and 1, the 1, zebra 1), then by alphabet.
    vocabulary = Vocabulary.fit(CAPTIONS, min_count=1)
    assert vocabulary.words == (*SPECIAL_WORDS, "a", "cat", "dog", "and", "the", "zebra")
    assert tuple(vocabulary.ids[word] for word in SPECIAL_WORDS) == (PAD, START, END, UNKNOWN)
    assert len(vocabulary) == 10


@pytest.mark.parametrize(("min_count", "kept"), [(2, ["a", "cat", "dog"]), (3, ["a"])])
def test_rare_words_are_left_out(min_count, kept):
    assert list(Vocabulary.fit(CAPTIONS, min_count=min_count).words[4:]) == kept


def test_the_order_of_captions_does_not_matter():
    assert Vocabulary.fit(CAPTIONS, min_count=1) == Vocabulary.fit(CAPTIONS[::-1], min_count=1)


def test_special_words_in_captions_are_not_learnt_twice():
    vocabulary = Vocabulary.fit([["<unk>", "<end>", "dog"]], min_count=1)
    assert vocabulary.words == (*SPECIAL_WORDS, "dog")


def test_no_word_is_frequent_enough():
    with pytest.raises(InputError, match="no word occurs at least 9 times"):
        Vocabulary.fit(CAPTIONS, min_count=9)


def test_encode_and_decode():
    vocabulary = Vocabulary.fit(CAPTIONS, min_count=2)
    numbers = vocabulary.encode(["a", "zebra", "dog"])
    assert numbers == [4, 3, 6]
    assert vocabulary.decode([START, *numbers, END, 5, PAD]) == ["a", "<unk>", "dog"]
    assert vocabulary.decode([4, PAD, 5]) == ["a", "cat"]


def test_save_and_load(tmp_path):
    vocabulary = Vocabulary.fit([["café", "狗", "n't"]], min_count=1)
    path = tmp_path / "vocab.json"
    path.write_text(vocabulary.to_json(), encoding="utf-8")
    assert Vocabulary.load(path) == vocabulary
    assert "狗" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "not a vocabulary"),
        ("[1, 2]", "not a vocabulary"),
        ('{"tokens": []}', "not a vocabulary"),
        ('{"words": 5}', "first four words must be <pad> <start> <end> <unk>"),
        ('{"words": ["a", "dog"]}', "first four words must be"),
    ],
)
def test_bad_vocabulary_files(tmp_path, content, message):
    path = tmp_path / "vocab.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message) as raised:
        Vocabulary.load(path)
    assert str(path) in str(raised.value)


def test_missing_vocabulary_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        Vocabulary.load(tmp_path / "vocab.json")
