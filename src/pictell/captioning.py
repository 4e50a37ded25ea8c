"""What `pictell caption` does: captions of files to the screen, into a table, or beside the files.

captioning = Captioning(["runs/attention"], find_pictures(["photos/"]))
failed = captioning.into_table(Path("captions.jsonl"))
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pictell.caption_files import Failures, caption_files
from pictell.caption_table import CaptionTable, made_by, without_sidecar, write_sidecar
from pictell.captioner import Caption, Captioner
from pictell.decoders.base import decoder_class
from pictell.ensemble import open_members
from pictell.errors import InputError
from pictell.progress import console, progress_bar

OnCaption = Callable[[Path, Caption], None]


class Captioning:
    """Files that a run is to caption. Each way to do it returns why some could not be captioned.

    Args:
        runs: The run folder; several write together (`Captioner.load_ensemble`).
        paths: Picture files.
        search: What differs from the run's own search, such as its beam; None counts as not given.
        batch_size: Pictures that are worked on together.
        weights: Where the frozen encoder's weights are, if not where the config says.

    Raises:
        InputError: The folder holds no usable run, or a number makes no sense.
    """

    def __init__(
        self,
        runs: Sequence[str | Path],
        paths: Sequence[Path],
        *,
        search: Mapping[str, Any] | None = None,
        batch_size: int = 32,
        weights: str = "",
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; it must be 1 or more")
        self.runs, self.paths = open_members(runs), list(paths)
        given = {name: value for name, value in (search or {}).items() if value is not None}
        self.search = replace(self.runs[0].config.search, **given)
        self.batch_size, self.weights = batch_size, weights
        self._draw: OnCaption | None = None

    def draw_attention(self, draw: OnCaption) -> None:
        """Have each caption drawn too.

        Raises:
            InputError: The model has no attention.
        """
        if not all(decoder_class(run.config.decoder.name).attends for run in self.runs):
            raise InputError("this model has no attention to draw; leave --attention out")
        self._draw = draw

    def to_output(self) -> Failures:
        """Print the caption, of several pictures with the file before it."""

        def show(path: Path, caption: Caption) -> None:
            line = f"{path}\t{caption.text}" if len(self.paths) > 1 else caption.text
            print(line, flush=True)

        # A bar and lines of results would tear each other apart on a terminal.
        quiet = sys.stdout.isatty() or len(self.paths) == 1
        return self._caption(self.paths, show, quiet=quiet)

    def into_table(self, out: Path, *, overwrite: bool = False) -> Failures:
        """Write a .jsonl or .csv file; goes on where an earlier call was stopped."""
        settings = made_by(self.runs, self.search)
        with CaptionTable(out, settings, overwrite=overwrite) as table:
            missing = table.missing(self.paths)
            done = len(self.paths) - len(missing)
            self._note(done, f"are in {table.partial} already")
            failed = self._caption_or_tell(missing, table.add)
            if len(failed) < len(self.paths):
                table.finish(self.paths)
                print(f"{out}: {len(self.paths) - len(failed):,} captions")
                if failed:
                    again = "once the pictures are mended, the same command adds them"
                    console.print(f"{table.partial} is kept: {again}", soft_wrap=True)
        return failed

    def into_sidecars(self, *, overwrite: bool = False) -> Failures:
        """Write a text file beside each picture that has none."""
        wanted, shared = without_sidecar(self.paths, overwrite=overwrite)
        kept = len(self.paths) - len(wanted) - len(shared)
        self._note(kept, "have a .txt beside them already; --overwrite writes it anew")
        failed = self._caption_or_tell(wanted, write_sidecar)
        print(f"{len(wanted) - len(failed):,} captions written beside their pictures")
        return failed | shared

    def _note(self, count: int, what: str) -> None:
        if count:
            console.print(f"{count:,} of {len(self.paths):,} pictures {what}", soft_wrap=True)

    def _caption_or_tell(self, paths: list[Path], on_caption: OnCaption) -> Failures:
        try:
            return self._caption(paths, on_caption)
        except KeyboardInterrupt:
            console.print("stopped; the same command goes on from here")
            raise

    def _captioner(self) -> Captioner:
        if len(self.runs) == 1:
            return Captioner.load(self.runs[0], weights=self.weights)
        return Captioner.load_ensemble(self.runs, weights=self.weights)

    def _caption(
        self, paths: list[Path], on_caption: OnCaption, *, quiet: bool = False
    ) -> Failures:
        if not paths:
            return {}
        captioner = self._captioner()
        captioner.expect(self.search.beam * len(paths))
        captioner.prepare(self.search)

        def done(path: Path, caption: Caption) -> None:
            on_caption(path, caption)
            if self._draw:
                self._draw(path, caption)

        with progress_bar(disable=quiet) as bar:
            shown = bar.add_task("captioning", total=len(paths), unit="pictures", note="")
            return caption_files(
                captioner,
                paths,
                self.search,
                done,
                batch_size=self.batch_size,
                on_progress=lambda count: bar.advance(shown, count),
            )
