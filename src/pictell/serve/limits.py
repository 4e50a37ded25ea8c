"""What a server takes, and the one exception for what it does not.

Every limit is refused with a status of its own kind and a sentence that says how to mend it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from pictell.errors import InputError

REQUEST_PICTURES_IN_FULL = 4  # a request may hold this many pictures of the largest size
MAX_BEAM = 10
MAX_LENGTH = 50


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request may ask for.

    Attributes:
        max_megabytes: Largest picture file, in millions of bytes.
        max_megapixels: Largest picture, in millions of pixels.
        max_frames: Longest animation; the first frame is captioned.
        max_pictures: Pictures in one request.
        queue: Pictures that may be in work or waiting; beyond it the answer is 503.
        timeout: Seconds for sending a request, and again for answering it.
        decode_seconds: Seconds for decoding one picture.
        decoders: Processes that decode pictures.
        decoder_megabytes: Memory that each of them may use, in millions of bytes.
    """

    max_megabytes: float = 20.0
    max_megapixels: float = 50.0
    max_frames: int = 500
    max_pictures: int = 16
    queue: int = 64
    timeout: float = 30.0
    decode_seconds: float = 10.0
    decoders: int = 2
    decoder_megabytes: float = 2000.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise InputError(f"{field.name} is {value}; it must be greater than zero")
        if self.queue < self.max_pictures:
            raise InputError(
                f"queue is {self.queue}, less than max_pictures ({self.max_pictures}): a full "
                "request could never be taken"
            )

    @property
    def picture_bytes(self) -> int:
        """Largest picture file."""
        return int(self.max_megabytes * 1e6)

    @property
    def request_bytes(self) -> int:
        """Largest request: several pictures, but not all of them at the largest size."""
        return min(self.max_pictures, REQUEST_PICTURES_IN_FULL) * self.picture_bytes + 100_000

    @property
    def pixels(self) -> int:
        """Largest picture in pixels."""
        return int(self.max_megapixels * 1e6)

    @property
    def bytes_in_flight(self) -> int:
        """Bytes of requests that may be in memory at once."""
        return 4 * self.request_bytes


class RefusedError(Exception):
    """A request, or one picture of it, that is not served.

    Attributes:
        status: The HTTP status.
        code: A name for programs.
        message: A sentence for people.
        retry_after: Seconds after which to try again, or None when trying again is no use.
    """

    def __init__(
        self, status: int, code: str, message: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.retry_after = retry_after

    def to_dict(self) -> dict[str, str]:
        """What the answer says."""
        return {"code": self.code, "message": self.message}
