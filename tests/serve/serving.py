"""What tests of the server share: pictures to send, and the tools in benchmarks/."""

import importlib.util
import io
import sys
from pathlib import Path
from types import ModuleType

from PIL import Image

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def png(width: int = 64, height: int = 48, colour: str = "red") -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(written, format="PNG")
    return written.getvalue()


def sent(*pictures: bytes | Path, name: str = "photo.png") -> list:
    """Pictures as files of a form."""
    return [
        ("pictures", (p.name, p.read_bytes()) if isinstance(p, Path) else (name, p))
        for p in pictures
    ]


def benchmark(name: str) -> ModuleType:
    """A module of the folder benchmarks, which is no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]
