"""Send a server of ours what it must not choke on, and see that it lives and forgets.

    python benchmarks/hostile_uploads.py runs/attention --uploads 200

Starts `pictell serve` on this machine's loopback address, sends each kind of bad or odd upload in
turn, and checks every answer: the 4xx that the kind deserves, or a right caption. Afterwards the
server must be well and its memory, decoders included, must be back where it was. Ends with exit
code 1 if anything is otherwise. `tests/serve/test_hostile.py` runs the same on a tiny model.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import socket
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, ImageDraw
from running_server import RunningServer, end_with_the_servers

BOUNDARY = b"a-boundary-that-occurs-nowhere"
SLOW_TIMEOUT = 6.0  # seconds that the server gives a request to arrive


@dataclass(frozen=True)
class Expected:
    """What an answer must be.

    Attributes:
        statuses: One of these.
        same: The caption must be that of the plain picture.
        size: Width and height that must be told.
        file: The name that must be told.
    """

    statuses: frozenset[int] = frozenset({200})
    same: bool = False
    size: tuple[int, int] | None = None
    file: str | None = None


@dataclass(frozen=True)
class Attack:
    """One upload: bytes to send, at once or in pieces with pauses, and what must come of it."""

    kind: str
    pieces: list[bytes]
    expected: Expected
    pause: float = 0.0
    hang_up: bool = False


CAPTION, SAME = Expected(), Expected(same=True)


def refused(*statuses: int) -> Expected:
    """One of these refusals."""
    return Expected(frozenset(statuses))


# -- pictures --------------------------------------------------------------------------------------


def scene(width: int = 160, height: int = 120, seed: int = 0) -> Image.Image:
    """A picture that needs no file: a sky, a ground and some shapes."""
    random_numbers = random.Random(seed)
    image = Image.new("RGB", (width, height), "skyblue")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, height * 2 // 3, width, height), fill="seagreen")
    for colour in ("firebrick", "gold", "white"):
        x, y = random_numbers.randrange(width), random_numbers.randrange(height)
        draw.ellipse((x, y, x + width // 4, y + height // 4), fill=colour)
    return image


def saved(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture file."""
    written = io.BytesIO()
    image.save(written, format=form, **options)
    return written.getvalue()


def png_of_zeros(width: int, height: int) -> bytes:
    """A PNG that says it is huge and holds next to nothing, made without its pixels."""
    line = zlib.compressobj(9)
    row = b"\0" * (1 + (width + 7) // 8)
    data = b"".join(line.compress(row) for _ in range(height)) + line.flush()
    head = struct.pack("!IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", data) + _chunk(b"IEND")


def _chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack("!I", len(data)) + name + data + struct.pack("!I", zlib.crc32(name + data))


def png_with_text_bomb() -> bytes:
    """A small picture with a compressed comment of 200 MB."""
    plain = saved(scene())
    packer = zlib.compressobj(9)
    text = b"".join(packer.compress(b"\0" * 1_000_000) for _ in range(200)) + packer.flush()
    return plain[:33] + _chunk(b"zTXt", b"Comment\0\0" + text) + plain[33:]


def tiff_that_claims(width: int, height: int) -> bytes:
    """A TIFF head without pixels."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1)]
    entries += [(273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, 100)]
    packed = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + struct.pack("<I", 8)


def animation(frames: int, form: str) -> bytes:
    """A moving picture; the first frame is the plain scene."""
    images = [scene()]
    for number in range(1, frames):
        image = Image.new("RGB", (160, 120), "black")
        image.putpixel((number % 160, number // 160), (255, 255, 255))
        images.append(image)
    options = {"lossless": True} if form == "WEBP" else {}
    return saved(images[0], form, save_all=True, append_images=images[1:], duration=40, **options)


def turned(orientation: int) -> bytes:
    """The plain scene, stored on its side or mirrored, with the EXIF note that puts it right."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = scene() if orientation == 1 else scene().transpose(undo[orientation])
    return saved(stored, exif=exif)


def flipped_bytes(data: bytes, random_numbers: random.Random, count: int) -> bytes:
    """Some bytes changed, those of the head included."""
    changed = bytearray(data)
    for _ in range(count):
        changed[random_numbers.randrange(len(changed))] = random_numbers.randrange(256)
    return bytes(changed)


# -- requests --------------------------------------------------------------------------------------


def part(data: bytes, name: str = "picture.png", field_name: str = "pictures") -> bytes:
    """One file of a multipart form."""
    shown = name.replace('"', "%22").encode("utf-8", "surrogateescape")
    head = b'Content-Disposition: form-data; name="%s"; filename="%s"\r\n' % (
        field_name.encode(),
        shown,
    )
    kind = b"Content-Type: application/octet-stream\r\n\r\n"
    return b"--" + BOUNDARY + b"\r\n" + head + kind + data + b"\r\n"


def form_of(*parts: bytes) -> bytes:
    """A whole multipart form."""
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def request(body: bytes, *, length: int | None = None, content_type: bytes | None = None) -> bytes:
    """A request with its length said beforehand."""
    kind = b"multipart/form-data; boundary=" + BOUNDARY if content_type is None else content_type
    size = b"%d" % (len(body) if length is None else length)
    return _head(kind) + b"Content-Length: " + size + b"\r\n\r\n" + body


def _head(content_type: bytes) -> bytes:
    return (
        b"POST /v1/captions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Content-Type: " + content_type + b"\r\n"
    )


def chunked(body: bytes, pieces: int) -> list[bytes]:
    """A request in chunks, its length never said."""
    size = -(-len(body) // pieces)
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    head = _head(b"multipart/form-data; boundary=" + BOUNDARY)
    framed = [b"%x\r\n" % len(chunk) + chunk + b"\r\n" for chunk in parts]
    return [head + b"Transfer-Encoding: chunked\r\n\r\n", *framed, b"0\r\n\r\n"]


def upload(kind: str, data: bytes, expected: Expected, name: str = "picture.png") -> Attack:
    """One file in an ordinary request."""
    return Attack(kind, [request(form_of(part(data, name)))], expected)


# -- kinds -----------------------------------------------------------------------------------------

Kind = Callable[[random.Random], Attack]
KINDS: list[Kind] = []


def kind(make: Kind) -> Kind:
    """Register a kind of upload."""
    KINDS.append(make)
    return make


@kind
def truncated(r: random.Random) -> Attack:
    """A JPEG of which the end is missing."""
    whole = saved(Image.effect_noise((200, 150), 60).convert("RGB"), "JPEG")
    return upload("truncated", whole[: r.randrange(10, len(whole) - 200)], refused(415, 422))


@kind
def truncated_png(r: random.Random) -> Attack:
    """A PNG of which the end is missing."""
    whole = saved(Image.effect_noise((200, 150), 60).convert("RGB"))
    return upload("truncated", whole[: r.randrange(10, len(whole) - 200)], refused(415, 422))


@kind
def bomb(r: random.Random) -> Attack:
    """A few hundred kilobytes that would become gigabytes."""
    return upload("bomb", png_of_zeros(r.choice((20_000, 40_000)), 20_000), refused(413))


@kind
def text_bomb(r: random.Random) -> Attack:
    """A good picture with a comment that would become 200 MB."""
    del r
    return upload("text bomb", png_with_text_bomb(), Expected(frozenset({200, 413, 422})))


@kind
def hundred_megapixels(r: random.Random) -> Attack:
    """A real picture, twice as large as is taken."""
    form = r.choice(("JPEG", "PNG"))
    data = saved(Image.new("L", (10_000, 10_000), 90), form)
    return upload("100 megapixels", data, refused(413))


@kind
def forty_nine_megapixels(r: random.Random) -> Attack:
    """As large as is taken."""
    mode = r.choice(("RGB", "L", "RGBA"))
    return upload("49 megapixels", saved(Image.new(mode, (7000, 7000))), CAPTION)


@kind
def claims(r: random.Random) -> Attack:
    """A head that promises a size, and nothing behind it."""
    width, height = r.choice(((1_000_000, 1_000_000), (60_000, 60_000), (100, 100)))
    expected = refused(413, 415, 422)
    return upload("empty promise", tiff_that_claims(width, height), expected, "x.tif")


@kind
def wrong_type(r: random.Random) -> Attack:
    """Files that are no pictures, or none that are taken."""
    contents = {
        "text": b"the quick brown fox",
        "html": b"<html><script>alert(1)</script></html>",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
        "zip": b"PK\x03\x04" + bytes(60),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
        "psd": b"8BPS\0\1" + bytes(200),
        "ppm": b"P6 2 2 255\n" + bytes(12),
        "program": b"\x7fELF" + bytes(200),
        "pickle": b"\x80\x04\x95" + bytes(40),
        "noise": r.randbytes(5000),
    }
    name = r.choice(sorted(contents))
    return upload("wrong type", contents[name], refused(415), f"holiday.{name}.jpg")


@kind
def animated(r: random.Random) -> Attack:
    """Moving pictures; of short ones the first frame is captioned."""
    form = r.choice(("GIF", "WEBP", "PNG"))
    # A GIF has 256 colours: enough for the scene.
    return upload("animated", animation(r.randrange(2, 12), form), SAME, f"a.{form.lower()}")


@kind
def long_animation(r: random.Random) -> Attack:
    """More frames than are taken."""
    del r
    return upload("endless animation", animation(600, "GIF"), refused(413), "a.gif")


@kind
def cmyk(r: random.Random) -> Attack:
    """Printers' colours."""
    del r
    return upload("CMYK", saved(scene().convert("CMYK"), "JPEG", quality=95), CAPTION, "a.jpg")


@kind
def deep(r: random.Random) -> Attack:
    """Sixteen bits, floating point, palettes, transparency, one bit."""
    grey = scene().convert("L")
    wide = Image.frombytes("I;16", grey.size, b"".join(bytes((v, v)) for v in grey.tobytes()))
    forms = {
        "16 bit PNG": saved(wide),
        "16 bit TIFF": saved(wide, "TIFF"),
        "float TIFF": saved(grey.convert("F"), "TIFF"),
        "one bit": saved(grey.convert("1")),
        "grey and alpha": saved(grey.convert("LA")),
    }
    name = r.choice(sorted(forms))
    return upload(name, forms[name], CAPTION)


@kind
def lossless(r: random.Random) -> Attack:
    """The plain scene in other clothes: the caption must be the same."""
    image = scene()
    forms = {
        "opaque RGBA": saved(image.convert("RGBA")),
        "palette": saved(image.convert("P", palette=Image.Palette.ADAPTIVE)),
        "BMP": saved(image, "BMP"),
        "TIFF": saved(image, "TIFF", compression="tiff_lzw"),
        "lossless WebP": saved(image, "WEBP", lossless=True),
        "interlaced GIF": saved(image, "GIF", interlace=1),
    }
    name = r.choice(sorted(forms))
    return upload(name, forms[name], SAME)


@kind
def exif_rotated(r: random.Random) -> Attack:
    """Stored on its side: caption and size must be those of the upright picture."""
    data = turned(r.randrange(1, 9))
    return upload("EXIF-rotated", data, Expected(same=True, size=(160, 120)))


@kind
def broken_exif(r: random.Random) -> Attack:
    """A good picture with rubbish where its notes should be."""
    exif = b"Exif\0\0" + r.randbytes(200)
    return upload("broken EXIF", saved(scene(), "JPEG", exif=exif), CAPTION)


@kind
def name_with_path(r: random.Random) -> Attack:
    """Names that would like to be paths."""
    names = {
        "../../../../etc/passwd": "passwd",
        "C:\\Windows\\evil.jpg": "evil.jpg",
        "/": "picture 1",
        "..": "picture 1",
        "a/b/c/dog.png": "dog.png",
        "x" * 400: "x" * 120,
        "狗 und Hündin.png": "狗 und Hündin.png",
        "<img src=x onerror=alert(1)>": "<img src=x onerror=alert(1)>",
        "tab\tand\x1bescape.png": "tabandescape.png",
    }
    name = r.choice(sorted(names))
    return upload("name with path", saved(scene()), Expected(same=True, file=names[name]), name)


@kind
def empty(r: random.Random) -> Attack:
    """Nothing, in several places."""
    bodies = [
        (form_of(part(b"")), refused(422)),
        (form_of(), refused(400)),
        (b"", refused(400)),
    ]
    body, expected = r.choice(bodies)
    return Attack("empty", [request(body)], expected)


@kind
def bad_form(r: random.Random) -> Attack:
    """Forms that are none, or not ours."""
    good = form_of(part(saved(scene())))
    multipart = b"multipart/form-data; boundary=" + BOUNDARY
    attacks = [
        (request(good, content_type=b"application/json"), 415),
        (request(good, content_type=b"multipart/form-data"), 400),
        (request(b"rubbish" + good, content_type=multipart), 400),
        (request(form_of(part(saved(scene()), field_name="file"))), 400),
        (request(form_of(part(saved(scene())), _value("beam", "many"))), 422),
        (request(form_of(part(saved(scene())), _value("beam", "1000"))), 422),
        (request(form_of(part(saved(scene())), _value("url", "http://127.0.0.1/"))), 422),
        (request(form_of(part(saved(scene())), _value("models", "none such"))), 422),
        (request(form_of(*[_value(f"field{n}", "x") for n in range(100)])), 400),
        (request(form_of(_value("beam", "9" * 100_000))), 400),
        (request(form_of(part(saved(scene()), "x" * 5000))), 400),
    ]
    sent, status = r.choice(attacks)
    return Attack("bad form", [sent], refused(status))


def _value(name: str, value: str) -> bytes:
    head = b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n' % (BOUNDARY, name.encode())
    return head + value.encode() + b"\r\n"


@kind
def too_many(r: random.Random) -> Attack:
    """More pictures, or more bytes, than are taken."""
    small = saved(scene(32, 32))
    if r.random() < 0.5:
        body = form_of(*[part(small) for _ in range(r.randrange(17, 60))])
        return Attack("too many pictures", [request(body)], refused(413))
    return upload("too many bytes", saved(scene()) + bytes(21_000_000), refused(413))


@kind
def endless(r: random.Random) -> Attack:
    """Chunks that never end, or a length that is a lie."""
    body = form_of(part(saved(scene())))
    if r.random() < 0.5:
        sent = request(body, length=10_000_000_000)
        return Attack("declared 10 GB", [sent], refused(413))
    return endless_chunks()


def endless_chunks() -> Attack:
    """90 MB after the picture, and no end."""
    head, first, _ = chunked(part(saved(scene())), 1)
    many = [b"100000\r\n" + bytes(0x100000) + b"\r\n"] * 90
    return Attack("endless", [head, first, *many], refused(413))


@kind
def slow(r: random.Random) -> Attack:
    """Chunks that drip: in time, or not."""
    body = form_of(part(saved(scene())))
    if r.random() < 0.5:
        return Attack("slow, in time", chunked(body, 8), SAME, pause=SLOW_TIMEOUT / 16)
    return Attack("too slow", chunked(body, 40), refused(408), pause=SLOW_TIMEOUT / 30)


@kind
def hangs_up(r: random.Random) -> Attack:
    """A client that goes away: in the midst of its request, or before the answer."""
    whole = request(form_of(part(saved(scene()))))
    cut = len(whole) if r.random() < 0.5 else r.randrange(100, len(whole) - 10)
    return Attack("hangs up", [whole[:cut]], CAPTION, hang_up=True)


@kind
def bit_rot(r: random.Random) -> Attack:
    """Good pictures with a few bytes changed, in every format."""
    form = r.choice(("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP"))
    data = flipped_bytes(saved(scene(), form), r, r.choice((1, 5, 50)))
    expected = Expected(frozenset({200, 413, 415, 422}))
    return upload("bit rot", data, expected, f"x.{form.lower()}")


@kind
def odd_shapes(r: random.Random) -> Attack:
    """One pixel, or a line of them."""
    width, height = r.choice(((1, 1), (1, 20_000), (20_000, 1), (2, 3)))
    data = saved(Image.new("RGB", (width, height), "red"))
    return upload("odd shape", data, Expected(size=(width, height)))


# -- sending ---------------------------------------------------------------------------------------


def send(port: int, attack: Attack) -> tuple[int, dict[str, Any]]:
    """The status of the answer and its JSON; status 0 for those who do not wait for one.

    Status -1 with what came if the answer is not whole, or if there is none.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        # An upload may be refused before all of it was sent; the answer is there to be read.
        with suppress(BrokenPipeError, ConnectionResetError):
            for piece in attack.pieces:
                connection.sendall(piece)
                time.sleep(attack.pause)
        return (0, {}) if attack.hang_up else _answer(connection)


def _answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    received = b""
    with suppress(ConnectionResetError):  # what came before is the answer
        while data := connection.recv(65536):
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    try:
        return int(head.split()[1]), json.loads(body)
    except (IndexError, ValueError):
        return -1, {"received": received.decode(errors="replace")[:1000]}


def problem(attack: Attack, status: int, answer: dict[str, Any], plain: str) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if attack.hang_up:
        return ""
    expected = attack.expected
    if status not in expected.statuses:
        return f"status {status}, not {sorted(expected.statuses)}: {answer}"
    if status != 200:
        told = answer.get("error", {})
        return "" if told.get("code") and told.get("message") else f"no sentence: {answer}"
    picture = answer["pictures"][0]
    text = picture["captions"][0]["text"]
    if not text or (expected.same and text != plain):
        return f"caption {text!r}, not {plain!r}"
    if expected.size and (picture["width"], picture["height"]) != expected.size:
        return f"size {picture['width']} x {picture['height']}, not {expected.size}"
    if expected.file and picture["file"] != expected.file:
        return f"file {picture['file']!r}, not {expected.file!r}"
    return ""


@dataclass
class Outcome:
    """What came of all uploads."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    memory_before: float = 0.0
    memory_most: float = 0.0
    memory_after: float = 0.0


def attacks(count: int, seed: int = 0) -> Iterator[Attack]:
    """Uploads of all kinds in turn."""
    random_numbers = random.Random(seed)
    for number in range(count):
        yield KINDS[number % len(KINDS)](random_numbers)


def attack_all(server: RunningServer, count: int, seed: int = 0) -> Outcome:
    """Send `count` uploads, check each, and see that the server is as before."""
    outcome = Outcome()
    plain_upload = upload("plain", saved(scene()), CAPTION)
    for _ in range(5):
        _, answer = send(server.port, plain_upload)
    plain = answer["pictures"][0]["captions"][0]["text"]
    outcome.memory_before = outcome.memory_most = server.memory_mb()
    for attack in attacks(count, seed):
        status, answer = send(server.port, attack)
        outcome.answers[attack.kind, status] += 1
        if wrong := problem(attack, status, answer, plain):
            outcome.problems.append(f"{attack.kind}: {wrong}")
        outcome.memory_most = max(outcome.memory_most, server.memory_mb())
    time.sleep(2.0)
    status, answer = send(server.port, plain_upload)
    if status != 200 or answer["pictures"][0]["captions"][0]["text"] != plain:
        outcome.problems.append(f"afterwards the plain picture got {status}: {answer}")
    if server.health()["pending"]:
        outcome.problems.append(f"afterwards pictures are still pending: {server.health()}")
    outcome.memory_after = server.memory_mb()
    return outcome


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("run", help="a run folder")
    parser.add_argument("--uploads", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    end_with_the_servers()
    with RunningServer([options.run], ["--timeout", str(SLOW_TIMEOUT)]) as server:
        outcome = attack_all(server, options.uploads, options.seed)
    for (name, status), count in sorted(outcome.answers.items()):
        print(f"{name:20} {status or 'hung up':>8} {count:4}")
    print(
        f"memory: {outcome.memory_before:.0f} MB before, {outcome.memory_most:.0f} MB at most, "
        f"{outcome.memory_after:.0f} MB after"
    )
    for wrong in outcome.problems:
        print(f"WRONG {wrong}", file=sys.stderr)
    print(f"{options.uploads - len(outcome.problems)} of {options.uploads} as they must be")
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
