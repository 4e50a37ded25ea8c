"""The API's questions and answers, as pydantic models: what they may hold and what it means."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pictell.serve.limits import MAX_BEAM, MAX_LENGTH


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CaptionOptions(_Model):
    """Fields beside the pictures; all may be left out."""

    models: list[str] = Field(default=[], description="Names of models; all of them if left out")
    beam: int | None = Field(
        default=None, ge=1, le=MAX_BEAM, description="Beam width; 1 is greedy search"
    )
    max_length: int | None = Field(
        default=None, ge=1, le=MAX_LENGTH, description="Longest caption in words"
    )
    length_penalty: float | None = Field(
        default=None, ge=0, le=2, description="Exponent of the length in the ranking of captions"
    )
    block_repeats: int | None = Field(
        default=None,
        ge=0,
        le=MAX_LENGTH,
        description="Words in a row that no caption holds twice; 0 for any",
    )
    detail: Literal["text", "words", "maps"] = Field(
        default="words",
        description="text: captions alone; words: and each word's probability; maps: and where the "
        "model looked at each word",
    )
    occlusion: bool = Field(
        default=False,
        description="Make occlusion maps, which every model can, in place of attention maps: "
        "slow, and only for one picture a request",
    )
    preview: bool = Field(
        default=False, description="Also send the picture as a small upright JPEG"
    )


class Alternative(_Model):
    """A word that the model might have said instead; `<end>` means to end there."""

    text: str
    probability: float


class Word(_Model):
    """A word of a caption."""

    text: str
    probability: float
    alternatives: list[Alternative]


class Maps(_Model):
    """A map for each word: `scale` holds the largest value of each; `data` is base64 of a byte for
    each word, row and column, where 255 stands for the word's scale."""

    scale: list[float]
    data: str


class ModelCaption(_Model):
    """What one model says of a picture."""

    model: str
    text: str = Field(description="The caption")
    log_probability: float = Field(description="Sum over the words and the end, in nats")
    ended: bool = Field(description="False if the caption was cut at the longest length")
    words: list[Word] | None = None
    kind: Literal["attention", "occlusion", "none"] | None = None
    seen: list[float] | None = Field(
        default=None,
        description="What the maps cover: left, top, right, bottom in pixels of the upright "
        "picture",
    )
    grid: list[int] | None = Field(default=None, description="Rows and columns of a map")
    maps: Maps | None = None


class ErrorText(_Model):
    """Why something is refused."""

    code: str = Field(description="For programs")
    message: str = Field(description="For people")


class Picture(_Model):
    """What became of one picture: captions, or the reason why there are none."""

    file: str = Field(description="The name it was sent with")
    width: int | None = Field(default=None, description="Of the upright picture, in pixels")
    height: int | None = None
    captions: list[ModelCaption] | None = Field(default=None, description="One for each model")
    preview: str | None = Field(default=None, description="A data: URI, if it was asked for")
    error: ErrorText | None = None


class CaptionsAnswer(_Model):
    """The answer to /v1/captions: as many pictures as were sent, in that order."""

    pictures: list[Picture]
    seconds: float = Field(description="From the last byte of the request to the answer")


class ErrorAnswer(_Model):
    """The answer to a request that is refused as a whole."""

    error: ErrorText


class Search(_Model):
    """A model's own search."""

    beam: int
    length_penalty: float
    max_length: int


class ModelDescription(_Model):
    """A model that captions."""

    name: str
    decoder: str
    encoder: str
    language: str
    attention: bool
    words: int = Field(description="Size of the vocabulary")
    search: Search
    validation: dict[str, float] = Field(description="Scores of the epoch that was kept")


class LimitsDescription(_Model):
    """What the server takes."""

    picture_bytes: int
    request_bytes: int
    pixels: int
    frames: int
    pictures: int
    seconds: float
    beam: int
    max_length: int


class ModelsAnswer(_Model):
    """The answer to /v1/models."""

    models: list[ModelDescription]
    limits: LimitsDescription


class Health(_Model):
    """The answer to /healthz."""

    status: Literal["ok", "stopping", "broken"]
    models: list[str]
    pending: int = Field(description="Pictures in work or waiting")
    queue: int = Field(description="How many there may be")


_WORD = {"text": "dog", "probability": 0.71, "alternatives": [{"text": "cat", "probability": 0.1}]}
_CAPTION = {
    "model": "attention",
    "text": "a dog runs on the grass",
    "log_probability": -6.2,
    "ended": True,
    "words": [_WORD],
}
CAPTIONS_EXAMPLE = {
    "pictures": [{"file": "dog.jpg", "width": 640, "height": 480, "captions": [_CAPTION]}],
    "seconds": 0.08,
}


def error_example(code: str, message: str) -> dict[str, Any]:
    """An `ErrorAnswer`."""
    return {"error": {"code": code, "message": message}}
