"""pictell trains, compares, explains and ships image-captioning models.

    from pictell import Captioner
    captions = Captioner.load("runs/flickr8k_attention").caption(["photo.jpg"])

The names below are resolved on first use, so that `import pictell` stays free of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pictell.captioner import Caption, Captioner

__version__ = "0.1.0"
__all__ = ["Caption", "Captioner", "__version__"]

_LAZY = {"Caption": "pictell.captioner", "Captioner": "pictell.captioner"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'pictell' has no attribute {name!r}")
