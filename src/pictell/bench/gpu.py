"""What mixed precision, compiling and accumulation bring on a GPU, each way of training apart.

    results = [measure_setting(setting, Shapes()) for setting in settings()]

For each decoder, with stored features and with a ResNet-101 that is trained: single precision,
fp16 with a loss scaler and bf16; as it is, compiled, and with CUDA graphs, as training does it (of
the CNN, and of the loop over the words where captions have one length); with one batch a step of
the optimiser and with two. A trained CNN sees six pictures with all their captions, or 32 pictures
with one each. Its convolutions in single precision round what they multiply to TF32 (as torch does
unless it is told otherwise), or not. The textbook's code runs in the same process, in single
precision and with TF32 there.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from pictell.bench.arithmetic import Shapes
from pictell.bench.case import textbook
from pictell.bench.measure import alternate, matrix_pace, read_bandwidth
from pictell.bench.training import CELLS, CLIP, GRID, FineTuningStep, TrainingStep, as_textbook
from pictell.decoders.base import decoder_class
from pictell.encoders.encoder import Encoder
from pictell.training.cuda_graphs import RECORDED_AFTER, EncodingGraphs, ReadingGraphs

PRECISIONS: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "tf32": torch.float32,  # in convolutions; products are in single precision there too
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
EAGER, COMPILED, GRAPHS = "eager", "compiled", "CUDA graphs"
BACKBONE, SIDE = "resnet101", 256
CAPTIONS = {"caption": 32, "picture": 30}  # of a batch


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way of training.

    Attributes:
        decoder: `rnn` or `attention`.
        fine_tuned: Train the CNN too, on pixels; else stored features are read.
        batch_by: `picture` (six pictures with five captions each) or `caption` (32 captions of one
            length, of as many pictures).
        precision: A key of `PRECISIONS`.
        execution: `EAGER`, `COMPILED` or `GRAPHS`.
        accumulation: Batches to a step of the optimiser.
    """

    decoder: str
    fine_tuned: bool
    batch_by: str
    precision: str
    execution: str
    accumulation: int

    def as_textbook(self) -> Setting:
        """The textbook's setting to compare with: it knows no mixed precision."""
        return replace(self, precision="tf32", execution=EAGER)

    def __str__(self) -> str:
        source = "stored features"
        if self.fine_tuned:
            source = f"{BACKBONE} trained by {self.batch_by}"
        batches = f"accumulation {self.accumulation}"
        return ", ".join([self.decoder, source, self.precision, self.execution, batches])


@dataclass(frozen=True, kw_only=True)
class GpuResult:
    """What a setting gave.

    Attributes:
        setting: The setting.
        captions_per_second: Trained.
        textbook: The textbook's captions per second in the same process, in single precision.
        peak_mb: Most memory allocated on the GPU, in MB (10^6 bytes); 0 on a CPU.
        textbook_mb: The textbook's.
        pace_share: Part of the pace of a 2048^3 matrix product of the same precision that the
            arithmetic of a step with stored features reaches; else 0.
        bandwidth_share: Part of the bandwidth of reading that its bytes reach, likewise.
        failure: Why there are no numbers; empty where there are.
    """

    setting: Setting
    captions_per_second: float = 0.0
    textbook: float = 0.0
    peak_mb: float = 0.0
    textbook_mb: float = 0.0
    pace_share: float = 0.0
    bandwidth_share: float = 0.0
    failure: str = ""

    @property
    def ratio(self) -> float:
        """How many times the textbook's rate."""
        return self.captions_per_second / self.textbook if self.textbook else 0.0


def settings() -> list[Setting]:
    """All combinations that differ: stored features need no convolutions, and the RNN has no loop
    of its own on a GPU that a graph would help. With a picture for each caption, not all are asked
    for.
    """
    sources = ((False, "caption"), (True, "picture"), (True, "caption"))
    every = itertools.product(
        ("rnn", "attention"), sources, PRECISIONS, (EAGER, COMPILED, GRAPHS), (1, 2)
    )
    return [
        Setting(
            decoder=decoder,
            fine_tuned=fine_tuned,
            batch_by=batch_by,
            precision=precision,
            execution=execution,
            accumulation=accumulation,
        )
        for decoder, (fine_tuned, batch_by), precision, execution, accumulation in every
        if (fine_tuned or precision != "tf32")
        and (fine_tuned or decoder_class(decoder).loops or execution != GRAPHS)
        and not (
            fine_tuned and batch_by == "caption" and (execution == COMPILED or accumulation > 1)
        )
    ]


def measure_setting(
    setting: Setting,
    shapes: Shapes | None = None,
    *,
    device: str = "cuda",
    backbone: str = BACKBONE,
    side: int = SIDE,
    repeats: int = 20,
) -> GpuResult:
    """Train some batches in one way and in the textbook's.

    What this torch cannot compile, or what does not fit into memory, is told in the result.
    """
    shapes = shapes or Shapes(captions=CAPTIONS[setting.batch_by])
    case = _case(setting, shapes, backbone, side)
    where = torch.device(device)
    try:
        plain, plain_mb = _textbook(
            setting.as_textbook(), shapes, where, backbone=backbone, side=side, repeats=repeats
        )
        with _convolutions(setting):
            seconds, peak_mb = _timed(lambda: _step(case, setting, where), where, repeats)
    except RuntimeError as error:  # torch.compile's own errors are of this kind too
        return GpuResult(setting=setting, failure=str(error).strip().split("\n")[0])
    pace_share, bandwidth_share = _shares(case, setting, seconds, where)
    return GpuResult(
        setting=setting,
        captions_per_second=setting.accumulation * case.amount / seconds,
        textbook=setting.accumulation * case.amount / plain,
        peak_mb=peak_mb,
        textbook_mb=plain_mb,
        pace_share=pace_share,
        bandwidth_share=bandwidth_share,
    )


@lru_cache  # the same for all precisions and executions
def _textbook(
    setting: Setting,
    shapes: Shapes,
    device: torch.device,
    *,
    backbone: str,
    side: int,
    repeats: int,
) -> tuple[float, float]:
    """Seconds and MB of the textbook's step."""
    case = _case(setting, shapes, backbone, side)
    with _convolutions(setting):
        return _timed(lambda: _textbook_step(case, setting, device), device, repeats)


@contextmanager
def _convolutions(setting: Setting) -> Iterator[None]:
    """Whether convolutions round what they multiply to TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = setting.precision != "fp32"
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _timed(
    prepare: Callable[[], Callable[[], object]],
    device: torch.device,
    repeats: int,
) -> tuple[float, float]:
    """The median of a step's seconds, and the most memory in MB."""
    cuda = device.type == "cuda"
    gc.collect()  # what an earlier setting left behind would count
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    step = prepare()
    for _ in range(RECORDED_AFTER):
        step()
    timing = alternate({"step": step}, repeats)["step"]
    return timing.median, torch.cuda.max_memory_allocated() / 1e6 if cuda else 0.0


def _shares(
    case: TrainingStep, setting: Setting, seconds: float, device: torch.device
) -> tuple[float, float]:
    """Which parts of the GPU's pace and bandwidth a step reaches; nothing is told of a CPU."""
    if device.type == "cpu":
        return 0.0, 0.0
    dtype, terms = PRECISIONS[setting.precision], case.arithmetic()
    per_second = setting.accumulation / seconds
    gflop = sum(term.gflop for term in terms)
    gigabytes = sum(term.megabytes for term in terms) / 1e3 * dtype.itemsize / 4
    return (
        per_second * gflop / matrix_pace(device, dtype),
        per_second * gigabytes / read_bandwidth(device),
    )


def _case(setting: Setting, shapes: Shapes, backbone: str, side: int) -> TrainingStep:
    if setting.fine_tuned:
        each = 1 if setting.batch_by == "caption" else 5
        return FineTuningStep(
            setting.decoder, shapes, backbone=backbone, side=side, captions_per_picture=each
        )
    return TrainingStep(setting.decoder, shapes)


def _step(case: TrainingStep, setting: Setting, device: torch.device) -> Callable[[], object]:
    """Pictell's step, as the training loop makes it."""
    decoder = case.build().to(device)
    inputs, owners, encoder = _inputs(case, device)
    case.words, case.targets = case.words.to(device), case.targets.to(device)
    if setting.execution == COMPILED:
        torch._dynamo.reset()
        decoder.teacher_forced = torch.compile(decoder.teacher_forced)  # type: ignore[method-assign]
    autocast = _autocast(setting, device)
    recorded = setting.execution == GRAPHS
    encoding = EncodingGraphs(encoder, lambda: autocast) if recorded and encoder else None
    reading = ReadingGraphs(decoder, lambda: autocast) if recorded and decoder.loops else None

    def loss() -> Tensor:
        features = encoding(inputs) if encoding else None
        if features is None:
            with autocast:
                features = encoder(inputs) if encoder else inputs
        output = reading(features, case.words, case.lengths, owners) if reading else None
        with autocast:
            if output is None:
                output = decoder.teacher_forced(features, case.words, case.lengths, owners)
            return case.loss_of(output)

    return _optimised(loss, [decoder, encoder], setting, device, fused=True)


def _textbook_step(
    case: TrainingStep, setting: Setting, device: torch.device
) -> Callable[[], object]:
    """The textbook's step, which knows no mixed precision and encodes for each caption."""
    plain = as_textbook(case.build()).to(device)
    inputs, owners, encoder = _inputs(case, device)
    case.words, case.targets = case.words.to(device), case.targets.to(device)
    encode = None
    if encoder is not None:
        encode = FineTuningStep._textbook_encoder(encoder).to(device)
        inputs = inputs[owners].float() / 255
    pool = textbook("decoders").pool_regions

    def loss() -> Tensor:
        cells = encode(inputs) if encode else inputs
        return case.textbook_loss(plain, pool(cells, CELLS, GRID))

    return _optimised(loss, [plain, encode], setting, device, fused=False)


def _inputs(
    case: TrainingStep, device: torch.device
) -> tuple[Tensor, Tensor | None, Encoder | None]:
    """Pixels, whose captions are whose, and the encoder; or features alone."""
    if isinstance(case, FineTuningStep):
        return case.pixels().to(device), case.owners.to(device), case.encoder().to(device)
    return case.features().to(device), None, None


def _optimised(
    loss: Callable[[], Tensor],
    modules: Sequence[nn.Module | None],
    setting: Setting,
    device: torch.device,
    *,
    fused: bool,
) -> Callable[[], object]:
    """Forward, backward, clipping and Adam; with a loss scaler in fp16."""
    parameters = [p for m in modules if m is not None for p in m.parameters() if p.requires_grad]
    adam = torch.optim.Adam(parameters, lr=4e-4, fused=fused)
    dtype = PRECISIONS[setting.precision]
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def step() -> None:
        for _ in range(setting.accumulation):
            value = loss()
            scaler.scale(value / setting.accumulation).backward()
        scaler.unscale_(adam)
        nn.utils.clip_grad_norm_(parameters, CLIP)
        scaler.step(adam)
        scaler.update()
        adam.zero_grad()

    return step


def _autocast(setting: Setting, device: torch.device) -> torch.autocast:
    dtype = PRECISIONS[setting.precision]
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
