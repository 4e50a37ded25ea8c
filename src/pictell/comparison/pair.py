"""Two models side by side, and what is said of them: the ground of `claims`.

    pair = Pair(models[0], models[1], 0, 1)
    pair.both      # "flickr8k_rnn and flickr8k_attention"

Models are the records of comparison.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pictell.comparison.wording import listed
from pictell.translations import Language, say, translate

Model = Mapping[str, Any]
Group = Literal["quality", "likelihood", "cost"]


@dataclass(frozen=True)
class Claim:
    """What the numbers say of one subject.

    Attributes:
        subject: `BLEU-4`, `cross-entropy`, `training speed`, ...
        group: `quality` (scores of captions), `likelihood` (teacher-forced) or `cost`.
        state: `settled`; `open`: the numbers do not tell the two apart; `equal`: they are the same.
        winner: Position of the better model in the comparison if settled: the higher score, the
            lower cross-entropy, the faster, the smaller.
        sentence: To read.
    """

    subject: str
    group: Group
    state: Literal["settled", "open", "equal"]
    winner: int | None
    sentence: str


def subject_name(subject: str, language: Language) -> str:
    """What a claim's subject is called in a sentence."""
    name, _, beam = subject.partition(" (beam ")
    known = translate(language, name)
    return f"{known}{say(language, ' (beam {beam})', beam=beam.rstrip(')'))}" if beam else known


@dataclass(frozen=True)
class Pair:
    """Two models, and their positions in the comparison."""

    first: Model
    second: Model
    first_index: int
    second_index: int
    language: Language = "en"

    def say(self, text: str, /, **values: Any) -> str:
        """A sentence in the language; `both` and `subject` are filled in as they are to be read."""
        if "subject" in values:
            values["subject"] = subject_name(values["subject"], self.language)
        return say(self.language, text, both=self.both, **values)

    @property
    def models(self) -> tuple[Model, Model]:
        """Both records."""
        return self.first, self.second

    @property
    def both(self) -> str:
        """Both names, to read."""
        return listed([self.first["name"], self.second["name"]], self.language)

    def order(self, second_wins: bool) -> tuple[str, str, int]:
        """Names of winner and loser, and the winner's position."""
        names = self.first["name"], self.second["name"]
        if second_wins:
            return names[1], names[0], self.second_index
        return names[0], names[1], self.first_index

    def against(self, shown: Sequence[str], winner: int) -> str:
        """Two values, the winner's first: `0.22 against 0.21`."""
        values = list(shown)
        if winner == self.second_index:
            values.reverse()
        return self.say("{better} against {worse}", better=values[0], worse=values[1])

    def equal(self, subject: str, group: Group, value: str) -> Claim:
        """Both have the same value."""
        sentence = self.say(
            "There is no difference in {subject}: {both} both have {value}.",
            subject=subject,
            value=value,
        )
        return Claim(subject, group, "equal", None, sentence)
