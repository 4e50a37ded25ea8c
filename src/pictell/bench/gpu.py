"""What mixed precision, compiling and accumulation bring on a GPU, each way of training apart.

    results = [measure_setting(setting, Shapes()) for setting in settings()]

For each decoder, with stored features and with a ResNet-101 that is trained: single precision,
fp16 with a loss scaler and bf16; as it is, compiled, and compiled into CUDA graphs; with one batch
a step of the optimiser and with two. The textbook's code runs in single precision in the same
process.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from pictell.bench.arithmetic import Shapes
from pictell.bench.case import PICTELL, TEXTBOOK, textbook
from pictell.bench.measure import alternate
from pictell.bench.training import CELLS, CLIP, GRID, FineTuningStep, TrainingStep, as_textbook
from pictell.encoders.encoder import Encoder

PRECISIONS: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
EXECUTIONS: dict[str, str | None] = {
    "eager": None,
    "compiled": "default",
    "CUDA graphs": "reduce-overhead",
}
BACKBONE, SIDE = "resnet101", 256


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way of training.

    Attributes:
        decoder: `rnn` or `attention`.
        fine_tuned: Train the CNN too, on pixels; else stored features are read.
        precision: A key of `PRECISIONS`.
        execution: A key of `EXECUTIONS`.
        accumulation: Batches to a step of the optimiser.
    """

    decoder: str
    fine_tuned: bool
    precision: str
    execution: str
    accumulation: int

    def __str__(self) -> str:
        source = f"{BACKBONE} trained" if self.fine_tuned else "stored features"
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
        failure: Why there are no numbers; empty where there are.
    """

    setting: Setting
    captions_per_second: float = 0.0
    textbook: float = 0.0
    peak_mb: float = 0.0
    textbook_mb: float = 0.0
    failure: str = ""

    @property
    def ratio(self) -> float:
        """How many times the textbook's rate."""
        return self.captions_per_second / self.textbook if self.textbook else 0.0


def settings() -> list[Setting]:
    """All combinations."""
    return [
        Setting(
            decoder=decoder,
            fine_tuned=fine_tuned,
            precision=precision,
            execution=execution,
            accumulation=accumulation,
        )
        for decoder, fine_tuned, precision, execution, accumulation in itertools.product(
            ("rnn", "attention"), (False, True), PRECISIONS, EXECUTIONS, (1, 2)
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
    shapes = shapes or Shapes(captions=30 if setting.fine_tuned else 32)
    case = _case(setting, shapes, backbone, side)
    seconds, peaks = {}, {}
    try:
        for way, prepare in ((TEXTBOOK, _textbook_step), (PICTELL, _step)):
            _forget(device)
            step = prepare(case, setting, torch.device(device))
            timing = alternate({way: step}, repeats)[way]
            seconds[way], peaks[way] = timing.median, _peak_mb(device)
            del step
    except RuntimeError as error:  # torch.compile's own errors are of this kind too
        return GpuResult(setting=setting, failure=str(error).strip().split("\n")[0])
    return GpuResult(
        setting=setting,
        captions_per_second=setting.accumulation * case.amount / seconds[PICTELL],
        textbook=setting.accumulation * case.amount / seconds[TEXTBOOK],
        peak_mb=peaks[PICTELL],
        textbook_mb=peaks[TEXTBOOK],
    )


def _case(setting: Setting, shapes: Shapes, backbone: str, side: int) -> TrainingStep:
    if setting.fine_tuned:
        return FineTuningStep(setting.decoder, shapes, backbone=backbone, side=side)
    return TrainingStep(setting.decoder, shapes)


def _step(case: TrainingStep, setting: Setting, device: torch.device) -> Callable[[], object]:
    """Pictell's step, as the training loop makes it."""
    decoder = case.build().to(device)
    inputs, owners, encoder = _inputs(case, device)
    case.words, case.targets = case.words.to(device), case.targets.to(device)
    mode = EXECUTIONS[setting.execution]
    if mode is not None:
        torch._dynamo.reset()
        decoder.teacher_forced = torch.compile(decoder.teacher_forced, mode=mode)  # type: ignore[method-assign]

    def loss() -> Tensor:
        return case.loss(decoder, encoder(inputs) if encoder else inputs, owners)

    return _optimised(loss, [decoder, encoder], setting, device)


def _textbook_step(
    case: TrainingStep, setting: Setting, device: torch.device
) -> Callable[[], object]:
    """The textbook's step, which knows no mixed precision and encodes for each caption."""
    plain = as_textbook(case.build()).to(device)
    inputs, owners, encoder = _inputs(case, device)
    case.words, case.targets = case.words.to(device), case.targets.to(device)
    encode = None
    if encoder is not None:
        encode = FineTuningStep._textbook_encoder(encoder)
        inputs = inputs[owners].float() / 255
    pool = textbook("decoders").pool_regions
    plain_setting = Setting(**{**_fields(setting), "precision": "fp32", "execution": "eager"})

    def loss() -> Tensor:
        cells = encode(inputs) if encode else inputs
        return case.textbook_loss(plain, pool(cells, CELLS, GRID))

    return _optimised(loss, [plain, encode], plain_setting, device)


def _fields(setting: Setting) -> dict[str, Any]:
    return {field.name: getattr(setting, field.name) for field in fields(setting)}


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
) -> Callable[[], object]:
    """Forward, backward, clipping and Adam; with a loss scaler in fp16."""
    parameters = [p for m in modules if m is not None for p in m.parameters() if p.requires_grad]
    adam = torch.optim.Adam(parameters, lr=4e-4)
    dtype = PRECISIONS[setting.precision]
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def step() -> None:
        for _ in range(setting.accumulation):
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                value = loss()
            scaler.scale(value / setting.accumulation).backward()
        scaler.unscale_(adam)
        nn.utils.clip_grad_norm_(parameters, CLIP)
        scaler.step(adam)
        scaler.update()
        adam.zero_grad()

    return step


def _forget(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak_mb(device: str) -> float:
    return torch.cuda.max_memory_allocated() / 1e6 if device.startswith("cuda") else 0.0
