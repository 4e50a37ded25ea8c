"""Write docs/encoders.md: what grid of cells each of some encoders gives.

    python docs/make_encoders.py                              # writes the page
    python docs/make_encoders.py --check                      # exit code 1 if the page is stale
    python docs/make_encoders.py --size 320 resnet50 swin_tiny_patch4_window7_224   # prints rows

Networks are built with random weights: grid, width and size of a network do not depend on them, and
nothing is downloaded.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from pictell.config import EncoderConfig
from pictell.encoders.encoder import load_encoder
from pictell.errors import InputError

PAGE = Path(__file__).parent / "encoders.md"
SIZE = EncoderConfig().image_size
NAMES = (
    *("resnet18", "resnet50", "resnet101", "resnet152"),
    *(f"tf_efficientnet_lite{n}" for n in range(5)),
    *("mobilenetv3_large_100", "convnext_tiny", "convnext_small"),
    *("vit_small_patch16_224", "vit_base_patch16_224", "swin_tiny_patch4_window7_224"),
)

TEXT = """\
# Encoders

<!-- Written by docs/make_encoders.py. Change that, then run it again. -->

Any backbone of [timm](https://github.com/huggingface/pytorch-image-models) can be named with
`encoder.name`; the decoder takes its size from what the backbone gives. This table comes from
building each with random weights at {size} px, or, for transformers that take one size only, at
that one:

```bash
python docs/make_encoders.py
```

| encoder | picture, px | grid of cells | width of a cell | parameters | stored per picture |
| --- | ---: | ---: | ---: | ---: | ---: |
{rows}

For other names and other sizes the same command prints the rows:

```bash
python docs/make_encoders.py --size 320 resnet50 convnext_base
```

- **Grid.** Most networks see one cell in 32 x 32 pixels, vision transformers with patches of 16
  one in 16 x 16. The decoder attends over the cells pooled to `encoder.pooled_grid` (14, so 196
  regions), or, with 0, over the cells themselves. Pooling adds no information; see
  [design.md](design.md#the-grid). A larger `encoder.image_size` gives more cells, at the price of
  the encoder's time, which grows with the area.
- **Size.** Networks of convolutions take any size. Transformers that take one size only say so:
  `--encoder.image_size 224` then helps.
- **Grid must be square.** A network whose output is no square grid of cells is refused.
- **Earlier layers.** `encoder.earlier_layers` puts outputs of earlier layers beside the last one's,
  so that a cell is wider. They are named as timm names the backbone's modules: `layer3` of a
  ResNet, `blocks.5,blocks.6` of an EfficientNet or a vision transformer, `stages.2` of a ConvNeXt.
  A name that is not there is answered with the nearest one, or with a list.
- **Stored per picture.** What the feature store keeps, in fp16. For 8,000 pictures multiply by
  8,000.
- **Weights.** `encoder.weights` says where they come from: the hub or its cache (`hub`), a local
  file, or, for `tf_efficientnet_lite0` and `tf_efficientnet_lite2`, a Python package. `random`
  gives untrained ones, which are good for tests only.
"""


def row(name: str, size: int) -> str:
    """One line of the table.

    Raises:
        InputError: timm does not know the name, or the network takes another size.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*random weights")
        encoder = load_encoder(EncoderConfig(name=name, image_size=size, weights="random"))
    rows, columns = encoder.grid
    parameters = sum(p.numel() for p in encoder.backbone.parameters()) / 1e6
    stored = rows * columns * encoder.feature_size * 2 / 1000  # fp16
    return (
        f"| `{name}` | {size} | {rows} x {columns} | {encoder.feature_size:,} | "
        f"{parameters:.1f} M | {stored:,.0f} kB |"
    )


def rows(names: Sequence[str], size: int) -> list[str]:
    """Lines of the table; a network that does not take `size` is shown at 224 px."""
    lines = []
    for name in names:
        try:
            lines.append(row(name, size))
        except InputError as error:
            if "image_size" not in str(error):
                raise
            lines.append(row(name, 224))
    return lines


def page() -> str:
    """The whole page."""
    return TEXT.format(size=SIZE, rows="\n".join(rows(NAMES, SIZE)))


def main(arguments: Sequence[str]) -> int:
    """Write the page, check it, or print rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="encoders to print rows of, instead of the page")
    parser.add_argument("--size", type=int, default=SIZE, help="side of the picture in pixels")
    parser.add_argument("--check", action="store_true", help="only tell whether the page is stale")
    options = parser.parse_args(arguments)
    try:
        if options.names:
            print("\n".join(rows(options.names, options.size)))
            return 0
        text = page()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.check:
        stale = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text
        print(f"{PAGE}: {'stale' if stale else 'up to date'}")
        return int(stale)
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE}: written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
