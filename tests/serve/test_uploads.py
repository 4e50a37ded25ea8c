"""Names of uploads, and limits."""

import pytest

from pictell.errors import InputError
from pictell.serve.limits import Limits
from pictell.serve.uploads import safe_name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("dog.jpg", "dog.jpg"),
        ("../../etc/passwd", "passwd"),
        ("C:\\pictures\\dog.jpg", "dog.jpg"),
        ("", "picture 3"),
        ("/", "picture 3"),
        ("..", "picture 3"),
        ("a\0b\x1b[31m.png", "ab[31m.png"),
        ("\u202egpj.exe", "gpj.exe"),
        ("狗.png", "狗.png"),
        ("x" * 500, "x" * 120),
    ],
)
def test_names_are_fit_to_be_shown(name, shown):
    assert safe_name(name, 3) == shown


@pytest.mark.parametrize("name", ["max_megabytes", "queue", "timeout", "decoders"])
def test_limits_must_be_positive(name):
    with pytest.raises(InputError, match=f"{name} is 0"):
        Limits(**{name: 0})


def test_a_queue_that_no_full_request_fits_is_an_error():
    with pytest.raises(InputError, match="queue is 3, less than max_pictures"):
        Limits(queue=3)
