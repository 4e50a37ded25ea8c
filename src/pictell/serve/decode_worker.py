"""A process that decodes pictures and can be given up: `python -m pictell.serve.decode_worker`.

Uploaded files are hostile until shown otherwise. Here they meet Pillow in a process that holds
nothing else: it has a limit of memory, may write no file, knows only the formats that we read, and
is killed by its parent when it takes too long.

Both directions carry messages of a JSON object and bytes, each preceded by its length:

    parent -> worker   {"name", "max_pixels", "max_frames", "transforms", "preview"}, the file
    worker -> parent   {"size", "lengths"}, pixels for each transform and the preview
                       {"status", "code", "message"} when the picture is refused

This module must not import torch: the process starts in a fraction of a second and stays small.
"""

from __future__ import annotations

import io
import json
import resource
import struct
import sys
import warnings
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from pictell.data.images import FORMATS, ImageTransform, picture_size, read_image
from pictell.errors import InputError

HEAD = struct.Struct("!II")  # lengths of the JSON and of the bytes
PREVIEW_QUALITY = 85


def main() -> None:
    """Answer requests on standard input until it is closed."""
    megabytes = float(sys.argv[1])
    _limit_process(int(megabytes * 1e6))
    _limit_formats()
    warnings.simplefilter("ignore")
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # a stray print must not break the protocol
    while message := read_message(sys.stdin.buffer):
        write_message(answers, *answer(*message))


def _limit_process(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_formats() -> None:
    """Forget Pillow's other readers: some of them start programs or are seldom looked after."""
    Image.init()
    Image.ID[:] = [name for name in Image.ID if name in FORMATS]


def read_message(stream: BinaryIO) -> tuple[dict[str, Any], bytes] | None:
    """The next message, or None at the end of the stream."""
    head = stream.read(HEAD.size)
    if len(head) < HEAD.size:
        return None
    text_length, data_length = HEAD.unpack(head)
    return json.loads(stream.read(text_length)), stream.read(data_length)


def write_message(stream: BinaryIO, text: dict[str, Any], data: bytes) -> None:
    """Write a message and flush."""
    encoded = json.dumps(text).encode()
    stream.write(HEAD.pack(len(encoded), len(data)) + encoded)
    stream.write(data)
    stream.flush()


def answer(job: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Decode one picture for each transform, or say why it is refused."""
    name = job["name"]
    try:
        refusal = _refusal(data, job)
        if refusal is not None:
            return refusal, b""
        parts = [ImageTransform(**t).read(data, name=name).tobytes() for t in job["transforms"]]
        if job["preview"]:
            parts.append(_preview(data, name, job["preview"]))
        size = picture_size(data)
    except MemoryError:
        return _refused(413, "too_much_memory", f"{name}: decoding takes too much memory"), b""
    except InputError as error:
        return _refused(422, "undecodable", f"{error}; save it again and resend it"), b""
    return {"size": size, "lengths": [len(part) for part in parts]}, b"".join(parts)


def _refusal(data: bytes, job: dict[str, Any]) -> dict[str, Any] | None:
    """What the header alone forbids."""
    name = job["name"]
    if not data:
        return _refused(422, "empty", f"{name}: the file is empty")
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            if width * height > job["max_pixels"]:
                return _too_many_pixels(name, f"{width} x {height}", job["max_pixels"])
            if _frames(image) > job["max_frames"]:
                limit = f"the {job['max_frames']} that are taken"
                message = f"{name}: more frames than {limit}; send a still picture"
                return _refused(413, "too_many_frames", message)
    except UnidentifiedImageError:
        known = "JPEG, PNG, WebP, AVIF, GIF, TIFF or BMP"
        return _refused(415, "not_a_picture", f"{name}: not a picture; send {known}")
    except Image.DecompressionBombError:
        return _too_many_pixels(name, "its", job["max_pixels"])
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        message = f"{name}: the picture does not decode ({error}); save it again and resend it"
        return _refused(422, "undecodable", message)
    return None


def _too_many_pixels(name: str, size: str, limit: int) -> dict[str, Any]:
    message = f"{name}: {size} pixels are more than the {limit:,} that are taken; make it smaller"
    return _refused(413, "too_many_pixels", message)


def _frames(image: Image.Image) -> int:
    # An MPO file is a photograph with further views of it (a depth map, a thumbnail): no animation.
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def _refused(status: int, code: str, message: str) -> dict[str, Any]:
    return {"status": status, "code": code, "message": message}


def _preview(data: bytes, name: str, side: int) -> bytes:
    """An upright JPEG with sides of at most `side` pixels."""
    image = read_image(data, draft_size=side, name=name)
    image.thumbnail((side, side))
    written = io.BytesIO()
    image.save(written, format="JPEG", quality=PREVIEW_QUALITY)
    return written.getvalue()


if __name__ == "__main__":
    main()
