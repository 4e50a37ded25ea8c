"""Pictures of coloured shapes, a data set of them, and options of tiny trainings on it."""

from pathlib import Path

from PIL import Image, ImageDraw

from pictell.data.records import Example

COLOURS = {"red": "#d02020", "green": "#20a030", "blue": "#2040d0", "yellow": "#e0d020"}
SHAPES = ("circle", "square")
ENCODER = "test_resnet"  # timm's tiny ResNet: 96 features for a cell of 32 x 32 pixels


def draw_shape(path: Path, colour: str, shape: str, shift: int = 0) -> Path:
    """A picture of 64 x 64 pixels with one coloured shape on white."""
    image = Image.new("RGB", (64, 64), "white")
    draw = ImageDraw.Draw(image)
    box = (8 + shift, 12 + shift, 44 + shift, 48 + shift)
    if shape == "circle":
        draw.ellipse(box, fill=COLOURS[colour])
    else:
        draw.rectangle(box, fill=COLOURS[colour])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def shape_examples(folder: Path) -> list[Example]:
    """Eight training pictures with four captions each, four for validation, two for test."""
    examples = []
    for split, colours, shift in [
        ("train", list(COLOURS), 0),
        ("val", ["red", "blue"], 6),
        ("test", ["green"], 3),
    ]:
        for colour in colours:
            for shape in SHAPES:
                name = f"{split}_{colour}_{shape}"
                path = draw_shape(folder / f"{name}.png", colour, shape, shift)
                long = f"there is one {shape} and it is {colour}"
                captions = (f"a {colour} {shape} on white ground",) * 3 + (long,)
                if split != "train":
                    captions = (f"a {colour} {shape} on white ground", f"zebra {shape}")
                examples.append(
                    Example(image_id=name, path=path, captions=captions, split=split)  # type: ignore[arg-type]
                )
    return examples


def tiny_values(dataset: Path, weights: Path, features: Path) -> dict[str, dict]:
    """Options of a training that takes a second."""
    return {
        "data": {"dataset": str(dataset), "min_count": 1},
        "encoder": {
            "name": ENCODER,
            "weights": str(weights),
            "image_size": 64,
            "pooled_grid": 3,
            "features": str(features),
        },
        "decoder": {"embedding_size": 16, "hidden_size": 32, "attention_size": 16},
        "train": {
            "batch_size": 4,
            "epochs": 2,
            "decoder_lr": 1e-2,
            "workers": 0,
            "log_every": 1,
        },
        "search": {"max_length": 12},
    }
