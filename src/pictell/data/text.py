"""Words: a tokeniser per language, and the vocabulary.

    tokenizer = get_tokenizer("en")
    vocabulary = Vocabulary.fit([tokenizer.tokenize(c) for c in captions], min_count=5)

The same tokens feed training and scoring. The vocabulary is fitted on training captions alone.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol

from pictell.errors import InputError, MissingExtraError

PAD, START, END, UNKNOWN = range(4)
SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unk>")


class Tokenizer(Protocol):
    """Text to words and back."""

    name: str

    def tokenize(self, text: str) -> list[str]:
        """Words of a caption, lower-cased, without punctuation."""
        ...

    def join(self, words: Sequence[str]) -> str:
        """Words as a text to read."""
        ...

    def as_scored(self, words: Sequence[str]) -> list[str]:
        """Words of a model as scores count them, so that a text has one score, whoever wrote it."""
        ...


# Tokens that COCO's scoring drops (pycocoevalcap's list of punctuation, and all the brackets: its
# list names some of them in capitals, so that in lower case they slip through).
_MARKS = {".", "?", "!", ",", ":", ";", "...", "-", "--", "'", "''", "`", "``"}
_BRACKETS = {"-lrb-", "-rrb-", "-lsb-", "-rsb-", "-lcb-", "-rcb-"}
_PUNCTUATION = frozenset(_MARKS | _BRACKETS)

_STRAIGHT_QUOTES = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")

# A period ends a sentence where a word ends, but abbreviations ("D.C.", "mr.") keep theirs.
_PERIOD = re.compile(
    r"""(?<![\w'])(?P<abbreviation>(?:[a-z]\.)+|(?:mr|mrs|ms|dr|st|mt|jr|sr|co|etc|vs|ave|blvd)\.)
    | \.+ (?=["')\]}]*(?:\s|$))""",
    re.IGNORECASE | re.VERBOSE,
)

# Words that begin with an apostrophe: clitics, years and the like. Elsewhere it opens a quotation.
_APOSTROPHE_FIRST = re.compile(r"'(?:\d.*|s|re|ve|ll|d|m|n|em|til|cause|t)")
_CLITIC = re.compile(r" (n't|'(?:s|re|ve|ll|d|m)?)(?= |$)")


class EnglishTokenizer:
    """NLTK's Penn Treebank tokeniser, lower-cased, without COCO's list of punctuation.

    Rules around it for periods and quotation marks bring it closer to the Java tokeniser of COCO's
    caption evaluation: of the 40,460 captions of Flickr8k 99.975 % come out the same. Six of the
    ten others hold brackets.
    """

    name = "en"

    @cached_property
    def _treebank(self):
        from nltk.tokenize import TreebankWordTokenizer  # rules only: no data file is needed

        return TreebankWordTokenizer()

    def tokenize(self, text: str) -> list[str]:
        text = text.translate(_STRAIGHT_QUOTES)
        text = _PERIOD.sub(lambda period: period["abbreviation"] or " .", text)
        # NLTK takes the period off the last word, were it "D.C.": so let a period stand there.
        tokens = self._treebank.tokenize(text + " .", convert_parentheses=True)
        words = (self._bare(token.lower()) for token in tokens)
        return [word for word in words if word]

    @staticmethod
    def _bare(token: str) -> str:
        """The token without the quotation mark or dashes at its ends; "" if nothing is left."""
        if token in _PUNCTUATION:
            return ""
        token = token.strip("-`")
        return token if _APOSTROPHE_FIRST.fullmatch(token) else token.lstrip("'")

    def join(self, words: Sequence[str]) -> str:
        # Treebank splits clitics off ("do n't", "man 's"); a reader wants them joined.
        return _CLITIC.sub(r"\1", " ".join(words))

    def as_scored(self, words: Sequence[str]) -> list[str]:
        return list(words)


_CHINESE_PUNCTUATION = re.compile(r"[\s\W_]+", re.UNICODE)


class _JoinedTokenizer(ABC):
    """For texts without spaces: a model's pieces are joined, and cut anew where they are scored."""

    @abstractmethod
    def tokenize(self, text: str) -> list[str]:
        """Cut a text."""

    def join(self, words: Sequence[str]) -> str:
        return "".join(words)

    def as_scored(self, words: Sequence[str]) -> list[str]:
        return self.tokenize(self.join(words))


class ChineseTokenizer(_JoinedTokenizer):
    """Chinese words by rjieba, without punctuation."""

    name = "zh"

    def tokenize(self, text: str) -> list[str]:
        try:
            import rjieba
        except ImportError:
            raise MissingExtraError("rjieba", "zh", "Chinese word segmentation") from None
        words = rjieba.cut(text.strip().lower())
        return [w.strip() for w in words if not _CHINESE_PUNCTUATION.fullmatch(w)]


class ChineseCharacterTokenizer(_JoinedTokenizer):
    """Chinese characters one by one; runs of Latin letters and digits stay together."""

    name = "zh-char"

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[a-z0-9]+|[^\W_]", text.lower())


_TOKENIZERS = {t.name: t for t in (EnglishTokenizer, ChineseTokenizer, ChineseCharacterTokenizer)}
LANGUAGES = tuple(_TOKENIZERS)


@lru_cache
def get_tokenizer(language: str) -> Tokenizer:
    """The tokeniser of a language: `en`, `zh` (words) or `zh-char` (characters)."""
    if language not in _TOKENIZERS:
        raise InputError(f"no tokeniser for language {language!r}; known: {', '.join(LANGUAGES)}")
    return _TOKENIZERS[language]()


def same_text(language: str, other: str) -> bool:
    """Whether two languages differ in how a text is cut at most: `zh` and `zh-char` do."""
    return language.split("-")[0] == other.split("-")[0]


def scoring_units(language: str) -> dict[str, str]:
    """In what captions are scored besides their own words: name of the unit -> language.

    Chinese captions are scored per word and per character, whichever the model writes, so that
    models of both kinds have common scores. Other languages are scored in words only: no units.
    """
    return {"word": "zh", "character": "zh-char"} if same_text(language, "zh") else {}


@dataclass(frozen=True)
class Vocabulary:
    """The words a model can read, by number. 0..3 are `<pad>`, `<start>`, `<end>`, `<unk>`."""

    words: tuple[str, ...]

    @classmethod
    def fit(cls, captions: Iterable[Sequence[str]], *, min_count: int = 5) -> Vocabulary:
        """Count words of tokenised training captions; keep those seen at least `min_count` times.

        Words are ordered by falling count, then alphabetically, so that equal data give an equal
        vocabulary.
        """
        counts = Counter(word for caption in captions for word in caption)
        kept = [w for w, n in counts.items() if n >= min_count and w not in SPECIAL_WORDS]
        kept.sort(key=lambda w: (-counts[w], w))
        if not kept:
            raise InputError(
                f"no word occurs at least {min_count} times in the training captions; "
                "lower --data.min_count or bring more captions"
            )
        return cls(SPECIAL_WORDS + tuple(kept))

    @cached_property
    def ids(self) -> dict[str, int]:
        """Word -> number."""
        return {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, caption: Sequence[str]) -> list[int]:
        """Words -> numbers, with `<unk>` for words that are not in the vocabulary."""
        return [self.ids.get(word, UNKNOWN) for word in caption]

    def decode(self, numbers: Iterable[int]) -> list[str]:
        """Numbers -> words, up to `<end>`, without special words."""
        words = []
        for number in numbers:
            if number == END:
                break
            if number not in (PAD, START):
                words.append(self.words[number])
        return words

    def to_json(self) -> str:
        return json.dumps({"words": self.words}, ensure_ascii=False, indent=0) + "\n"

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read `vocab.json` of a run folder."""
        try:
            words = json.loads(path.read_text(encoding="utf-8"))["words"]
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; a run folder holds one") from None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: not a vocabulary written by pictell ({error})") from None
        if not isinstance(words, list) or tuple(words[:4]) != SPECIAL_WORDS:
            raise InputError(f"{path}: the first four words must be {' '.join(SPECIAL_WORDS)}")
        return cls(tuple(words))
