"""Training: epochs of accumulation windows, validation by free-running captions, safe stops.

    run = train(Config.load("configs/flickr8k_attention.yaml"), Path("runs/flickr8k_attention"))

An accumulation window is `accumulation` batches per process. Its loss is normalised by the real
words of the whole window, over all processes; the last window of an epoch may be shorter. Windows
are a function of seed and epoch, so that a run resumed from any window equals an uninterrupted one.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from pictell.config import Config
from pictell.data.batches import (
    Batch,
    captions_of_epoch,
    epoch_batches,
    epoch_picture_batches,
    load_batches,
    near,
)
from pictell.data.fluency import fluency
from pictell.data.views import training_views, views_of_epoch
from pictell.decoders.base import Decoder, build_decoder
from pictell.errors import InputError
from pictell.files import write_text
from pictell.machine import PeakMemory
from pictell.metrics import score_captions
from pictell.progress import console, progress_bar
from pictell.training.checkpoint import RunFolder, models_hash
from pictell.training.cuda_graphs import can_record
from pictell.training.early_stopping import EarlyStopping
from pictell.training.loss import Tally
from pictell.training.objective import CrossEntropy, NotFiniteError, Objective, Window
from pictell.training.record import check_same_experiment, check_same_inputs, describe_run
from pictell.training.rewards import CaptionRewards
from pictell.training.run_log import Progress, RunLog
from pictell.training.self_critical import SelfCritical
from pictell.training.soft_targets import SoftTargets, teachers_of
from pictell.training.start import FirstWeights
from pictell.training.task import SplitData, Task, build_task
from pictell.training.update import Update
from pictell.training.validation import teacher_forced_captions, write_greedy

COMPILE_FROM = 2_000  # batches; fewer save less time than compiling takes


class InterruptedTraining(Exception):
    """The user asked to stop; the state is saved."""


def train(
    config: Config, folder: Path, *, resume: bool = False, overwrite: bool = False
) -> RunFolder:
    """Train a decoder (and the encoder, if it is fine-tuned).

    Args:
        config: The experiment.
        folder: The run folder to write.
        resume: Go on where the run in `folder` stands.
        overwrite: Begin anew though `folder` holds a run.

    Returns:
        The run, with the weights of its best epoch.

    Raises:
        InputError: Something given cannot be used, or the loss is not finite.
        InterruptedTraining: SIGINT came; the state is saved.
    """
    run = RunFolder(folder)
    if run.info_file.exists() and not (resume or overwrite):
        raise InputError(
            f"{folder}: holds a run already; --resume goes on with it, --overwrite begins anew"
        )
    precision = _precision(config)
    AcceleratorState._reset_state()  # an earlier training in this process may have had another
    accelerator = _accelerator(precision)
    torch.manual_seed(config.train.seed)
    if resume:
        check_same_experiment(run, config)
    first = FirstWeights(config) if config.train.init and not resume else None
    with accelerator.main_process_first():  # it encodes what is missing, the others find it there
        task = build_task(
            config,
            vocabulary=run.vocabulary if resume else first and first.run.vocabulary,
            encoder=first and first.encoder(),
            device=accelerator.device,
            views=training_views(config.train),
        )
    if resume:
        check_same_inputs(run, task)
    trainer = Trainer(config, run, task, accelerator, first)
    if resume:
        trainer.restore(run.load_state())
    elif accelerator.is_main_process:
        for old in (run.model_file, run.state_file, run.log_file):
            old.unlink(missing_ok=True)
        about = describe_run(
            task,
            trainer.decoder,
            precision=accelerator.mixed_precision,
            processes=accelerator.num_processes,
        )
        if first is not None:
            about["init"] = first.description()
        if config.train.teachers:
            hashed = models_hash(teachers_of(config))
            about["teachers"] = {"runs": config.train.teachers, "model_sha256": hashed}
        run.write_start(config, task.vocabulary, about)
    trainer.fit()
    return run


def _precision(config: Config) -> str:
    gpu = torch.cuda.is_available()
    precision = config.train.precision
    if precision == "auto":
        return "fp16" if gpu else "no"
    if precision == "fp16" and not gpu:
        raise InputError(
            "train.precision is 'fp16', which needs a GPU; use none (or bf16) on a CPU"
        )
    return "no" if precision == "none" else precision


def _accelerator(precision: str) -> Accelerator:
    """Knows the processes that a launcher started, also on CPUs.

    Unless it is told so, accelerate looks for others only where there is a GPU; each process would
    train by itself then, all in the same folder.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return Accelerator(mixed_precision=precision, cpu=several and not torch.cuda.is_available())


class Trainer:
    """Holds the models and the optimiser; `fit` trains to the end."""

    def __init__(
        self,
        config: Config,
        run: RunFolder,
        task: Task,
        accelerator: Accelerator,
        first: FirstWeights | None = None,
    ) -> None:
        self.config, self.run, self.task, self.accelerator = config, run, task, accelerator
        self.device = accelerator.device
        self.encoder = task.encoder
        torch.manual_seed(config.train.seed)  # the decoder's weights depend on the seed alone
        self.decoder: Decoder = build_decoder(
            config.decoder,
            vocab_size=len(task.vocabulary),
            feature_size=self.encoder.feature_size,
            cells=self.encoder.grid,
            pooled_grid=config.encoder.pooled_grid,
        ).to(self.device)
        if first is not None:
            first.load_into(self.decoder, self.encoder)
        self.stopping = EarlyStopping(config.train.patience)
        self.progress = Progress()
        self.memory = PeakMemory()
        self.train_split, self.val_split = task.split("train"), task.split("val")
        for split in (self.train_split, self.val_split):
            split.pictures = near(split.pictures, self.device)
        self.objective = self._objective()
        self.views = self._views(0)
        windows = self._windows(0)  # of any epoch: all are as long
        self._epoch_captions = sum(len(batch) for window in windows for batch in window)
        self.update = Update(config.train, accelerator, self.decoder, self.encoder, len(windows))
        planned = config.train.epochs * sum(map(len, windows))
        if config.train.compile and self.device.type == "cpu" and planned >= COMPILE_FROM:
            self.decoder.compile_loops()
        self._interrupted = False
        self._last_save = time.monotonic()
        self.log = RunLog(run, config) if accelerator.is_main_process else None

    def _objective(self) -> Objective:
        config, split = self.config, self.train_split
        supervised = CrossEntropy(
            self.accelerator, self.decoder, self.encoder, config.train, self._soft_targets()
        )
        if config.train.compile and can_record(self.device):
            supervised.record_graphs()
        if config.train.objective == "cross_entropy":
            return supervised
        words = self.task.vocabulary
        return SelfCritical(
            supervised,
            CaptionRewards(split.references, words, bleu=config.train.reward_bleu),
            words,
            config,
            mean_length=float(split.captions.lengths.mean()),
        )

    def _soft_targets(self) -> SoftTargets | None:
        if not self.config.train.teachers:
            return None
        with self.accelerator.main_process_first():  # it asks, the others find the answers
            return SoftTargets.of_teachers(
                self.config, self.task, self.train_split, self.run.soft_targets_file, self.device
            )

    # -- the loop ---------------------------------------------------------------------------------

    def fit(self) -> None:
        """Train until the last epoch, or until patience runs out."""
        with self._catching_sigint():
            while self.progress.epoch < self.config.train.epochs and not self.stopping.should_stop:
                self._epoch()
        if self.accelerator.is_main_process:
            self.run.update_info(finished=True)
            self.run.soft_targets_file.unlink(missing_ok=True)  # only a resumed run needs it
        if self.log:
            self.log.close()

    def _epoch(self) -> None:
        progress, started = self.progress, time.monotonic()
        self.views = self._views(progress.epoch)
        windows = self._windows(progress.epoch)
        mine = windows[progress.window :]
        flat = [batch for window in mine for batch in self._share(window)]
        batches = load_batches(
            self.train_split.captions,
            self.train_split.pictures,
            flat,
            workers=self.config.train.workers,
            views=self.views,
        )
        self.decoder.train()
        self.encoder.train()
        self.objective.begin_epoch(progress.epoch)
        quiet = not self.accelerator.is_main_process
        with progress_bar(disable=quiet) as bar:
            done = sum(len(b) for w in windows[: progress.window] for b in w)
            name = f"epoch {progress.epoch + 1}/{self.config.train.epochs}"
            shown = bar.add_task(
                name, total=self._epoch_captions, completed=done, unit="captions", note=""
            )
            for window in mine:
                self._step(window, batches)
                now = time.monotonic()
                progress.seconds += now - started
                progress.total_seconds += now - started
                started = now
                note = f"loss {progress.tally.means(self.config.train.alpha_c)['loss']:.3f}"
                bar.update(shown, advance=sum(map(len, window)), note=note)
                self._between_windows()
        self._end_epoch()

    def _views(self, epoch: int) -> np.ndarray:
        """For each caption the view of its picture that it sees in this epoch."""
        images, counts = self.train_split.captions.images, self.train_split.view_counts
        if counts is None:
            return images
        return views_of_epoch(images, counts, seed=self.config.train.seed, epoch=epoch)

    def _windows(self, epoch: int) -> list[list[np.ndarray]]:
        batches = self._batches(epoch)
        size = self.config.train.accumulation * self.accelerator.num_processes
        return [batches[i : i + size] for i in range(0, len(batches), size)]

    def _batches(self, epoch: int) -> list[np.ndarray]:
        train, captions = self.config.train, self.train_split.captions
        order = {"seed": train.seed, "epoch": epoch}
        chosen = np.arange(len(captions.words))
        if train.captions_per_picture:
            chosen = captions_of_epoch(captions.images, train.captions_per_picture, **order)
            captions = captions.at(chosen)
        if self.config.batch_by == "picture":
            batches = epoch_picture_batches(captions, train.batch_size, **order)
        else:
            batches = epoch_batches(captions.lengths, train.batch_size, **order)
        return [chosen[batch] for batch in batches]

    def _share(self, window: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """This process's batches of a window."""
        return window[self.accelerator.process_index :: self.accelerator.num_processes]

    def _step(self, window: Sequence[np.ndarray], batches: Iterator[Batch]) -> None:
        """One step of the optimiser: forward and backward for each batch of the window."""
        train, progress = self.config.train, self.progress
        size = self._size(window)
        window_tally = Tally()
        for _ in self._share(window):
            batch = next(batches)
            try:
                loss, tally = self.objective.loss(batch, size)
            except NotFiniteError as error:
                raise self._not_finite(batch, str(error)) from None
            if not torch.isfinite(loss):
                raise self._not_finite(batch, f"the loss is {loss.item()}")
            self.memory.sample()
            self.accelerator.backward(loss)
            del loss  # what is left of its graph would stand in the way of recording the next one
            window_tally += tally
        norm = self._update()
        progress.window += 1
        progress.step += 1
        progress.tally += window_tally
        if self.log and progress.step % train.log_every == 0:
            rate = progress.tally.captions / max(progress.seconds, 1e-9)
            self.log.step(
                progress,
                window_tally,
                gradient_norm=norm,
                captions_per_second=rate * self.accelerator.num_processes,
                **self.objective.figures(),
            )

    def _size(self, window: Sequence[np.ndarray]) -> Window:
        captions = self.train_split.captions
        return Window(
            words=sum(int(captions.lengths[b].sum()) for b in window),
            captions=sum(len(b) for b in window),
            pictures=sum(len(np.unique(self.views[b])) for b in window),
        )

    def _update(self) -> float:
        """A step of the optimiser; returns the gradient's norm before clipping."""
        return self.update.step(step=self.progress.step, epoch=self.progress.epoch)

    def _sum(self, value: torch.Tensor) -> torch.Tensor:
        """The sum over processes."""
        return self.accelerator.reduce(value, reduction="sum")  # type: ignore[return-value]

    def _not_finite(self, batch: Batch, what: str) -> InputError:
        ids = [self.train_split.examples[i].image_id for i in batch.images]
        kept = "the last saved state is kept" if self.run.state_file.exists() else "nothing saved"
        return InputError(
            f"{what} in epoch {self.progress.epoch + 1}, step {self.progress.step + 1} "
            f"({kept}); lower the learning rate or the clip. Pictures of the batch: "
            + ", ".join(ids)
        )

    # -- validation, logs, state ------------------------------------------------------------------

    def _end_epoch(self) -> None:
        progress = self.progress
        started = time.monotonic()
        with self.update.average.applied():
            best = self._validate_and_keep()
        self.update.rates.end_epoch(better=best)
        progress.total_seconds += time.monotonic() - started
        progress.epoch += 1
        progress.window, progress.seconds, progress.tally = 0, 0.0, Tally()
        self.save_state()
        if progress.epoch < self.config.train.epochs and not self.stopping.should_stop:
            self._stop_if_interrupted()

    def _validate_and_keep(self) -> bool:
        """Validate, log, keep the weights if they are the best so far; says whether they are."""
        started = time.monotonic()
        scores = self._validate() if self.accelerator.is_main_process else {}
        validation = time.monotonic() - started
        score = self._from_main(self._selecting(scores) if scores else 0.0)
        best = self.stopping.update(score)
        if self.log:
            self._record_epoch(self.log, scores, validation, best)
            if best:
                self.run.save_model(self.decoder, self.encoder)
        return best

    def _selecting(self, scores: dict[str, Any]) -> float:
        """What early stopping watches: more is better."""
        if self.config.train.select_by == "cross-entropy":
            return -scores["teacher_forced"]["cross_entropy"]
        return scores[self.config.train.select_by]

    def _record_epoch(
        self, log: RunLog, scores: dict[str, Any], validation: float, best: bool
    ) -> None:
        progress = self.progress
        entry = {
            "val": scores,
            "best": best,
            "seconds": {"train": progress.seconds, "validation": validation},
            "captions_per_second": self._epoch_captions / max(progress.seconds, 1e-9),
            "peak_memory_mb": self.memory.megabytes,
            **self.objective.figures(),
        }
        log.epoch(progress, entry, pictures=len(self.val_split.examples))
        self.run.update_info(
            best_epoch=self.stopping.best_epoch,
            best_score={self.config.train.select_by: abs(self.stopping.best)},
            epochs=progress.epoch + 1,
            seconds=progress.total_seconds + validation,
            peak_memory_mb=self.memory.megabytes,
        )

    def _from_main(self, value: float) -> float:
        if self.accelerator.num_processes == 1:
            return value
        own = torch.tensor(value if self.accelerator.is_main_process else 0.0, device=self.device)
        return self._sum(own).item()

    def _validate(self) -> dict[str, Any]:
        """Scores of free-running captions, and `teacher_forced` means."""
        split: SplitData = self.val_split
        written = write_greedy(
            self.decoder,
            split,
            self.encoder,
            self.device,
            max_length=self.config.search.max_length,
            repeats=self.config.search.block_repeats,
        )
        as_scored, vocabulary = split.tokenizer.as_scored, self.task.vocabulary
        words = [as_scored(vocabulary.decode(numbers)) for numbers in written]
        scores: dict[str, Any] = {
            name: metric.corpus for name, metric in score_captions(words, split.references).items()
        }
        scores["distinct_captions"] = len({tuple(w) for w in words}) / len(words)
        scores["fluency"] = fluency(words, self.config.data.language)
        forced = teacher_forced_captions(
            self.decoder, split, self.encoder, self.device, self.config.train
        )
        scores["teacher_forced"] = forced.tally().means(self.config.train.alpha_c)
        return scores

    def _between_windows(self) -> None:
        minutes = self.config.train.save_every
        if minutes and time.monotonic() - self._last_save > 60 * minutes:
            self.save_state()
        self._stop_if_interrupted()

    def _stop_if_interrupted(self) -> None:
        if not self._interrupted_anywhere():
            return
        self.save_state()
        raise InterruptedTraining(
            f"stopped in epoch {self.progress.epoch + 1} after step {self.progress.step}; "
            f"go on with: pictell train {self.run.config_file} --resume"
        )

    def _interrupted_anywhere(self) -> bool:
        """All processes must stop after the same window, or one would wait for another for ever."""
        if self.accelerator.num_processes == 1:
            return self._interrupted
        own = torch.tensor(float(self._interrupted), device=self.device)
        return self._sum(own).item() > 0

    @contextmanager
    def _catching_sigint(self) -> Iterator[None]:
        """The first SIGINT ends training after the current step, a second one at once."""

        def stop(signum: int, frame: object) -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
            console.print("stopping after this step (press Ctrl-C again to stop at once)")

        try:
            before = signal.signal(signal.SIGINT, stop)
        except ValueError:  # not the main thread: signals are somebody else's
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def save_state(self) -> None:
        """Write all that a resumed run needs to equal an uninterrupted one."""
        self._last_save = time.monotonic()
        if not self.accelerator.is_main_process:
            return
        progress = {**vars(self.progress), "tally": vars(self.progress.tally)}
        self.run.save_state(
            {
                "decoder": self.decoder.state_dict(),
                "encoder": self.encoder.backbone.state_dict() if self.encoder.trained else {},
                **self.update.state_dict(),
                "objective": self.objective.state_dict(),
                "stopping": vars(self.stopping),
                "progress": progress,
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            }
        )

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a saved state, and drop log lines that were written after it."""
        self.decoder.load_state_dict(state["decoder"])
        if self.encoder.trained:
            self.encoder.backbone.load_state_dict(state["encoder"])
        self.update.load_state_dict(state)
        self.objective.load_state_dict(state["objective"])
        patience = self.config.train.patience
        self.stopping = EarlyStopping(**{**state["stopping"], "patience": patience})
        progress = dict(state["progress"])
        self.progress = Progress(**{**progress, "tally": Tally(**progress["tally"])})
        torch.set_rng_state(state["random"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["random_cuda"])
        if self.log:
            self.log.drop_after(self.progress.log_lines)
            write_text(self.run.config_file, self.config.to_yaml())
