"""Readers: one per layout in which captioned pictures are passed around.

    reading = read_flickr(Path("flickr8k"))
    reading.examples[0].captions, reading.problems

A reader finds captions and pictures and joins them; whether the pictures decode is looked at
later, by `prepare`.
"""

from pictell.data.readers.coco import read_coco
from pictell.data.readers.flickr import read_flickr
from pictell.data.readers.folder import read_folder
from pictell.data.readers.karpathy import read_karpathy
from pictell.data.readers.pictures import Problems, Reading
from pictell.data.readers.tables import read_csv, read_jsonl

__all__ = [
    "Problems",
    "Reading",
    "read_coco",
    "read_csv",
    "read_flickr",
    "read_folder",
    "read_jsonl",
    "read_karpathy",
]
