"""A training step of each decoder, with given features and with a trained encoder."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import timm
import torch
from torch import Tensor, nn

from pictell.bench.arithmetic import Shapes, attention_step, rnn_step
from pictell.bench.case import PICTELL, TEXTBOOK, Case, Term, textbook
from pictell.bench.inputs import caption_batch, picture_batch, region_features
from pictell.config import DecoderConfig, EncoderConfig
from pictell.decoders.attention import AttentionDecoder
from pictell.decoders.base import Decoder, TeacherForced, build_decoder, pack, targets_of
from pictell.encoders.encoder import Encoder
from pictell.training.loss import loss_sums

CELLS, GRID, CLIP = (8, 8), 14, 5.0


class TrainingStep(Case):
    """Pooling, forward, backward, clipping and Adam for one batch of frozen features.

    Args:
        decoder: `rnn` or `attention`.
        shapes: Extents; the words are counted in the captions.
    """

    unit = "captions"

    def __init__(self, decoder: str, shapes: Shapes) -> None:
        self.name = f"{decoder}, training step"
        self.decoder, self.amount = decoder, shapes.captions
        self._draw(shapes)
        read = pack(self.words, self.lengths)
        self.shapes = replace(shapes, real_words=len(read), distinct_words=len(read.unique()))

    def _draw(self, shapes: Shapes) -> None:
        """The captions."""
        self.words, self.targets, self.lengths = caption_batch(shapes.captions, shapes.vocabulary)

    def arithmetic(self) -> list[Term]:
        return (rnn_step if self.decoder == "rnn" else attention_step)(self.shapes)

    def build(self) -> Decoder:
        """Pictell's decoder, the same at each call."""
        torch.manual_seed(0)
        s = self.shapes
        return build_decoder(
            DecoderConfig(
                name=self.decoder,
                embedding_size=s.width,
                hidden_size=s.width,
                attention_size=s.width,
            ),
            vocab_size=s.vocabulary,
            feature_size=s.features,
            cells=CELLS,
            pooled_grid=GRID,
        )

    def features(self) -> Tensor:
        """(B, C, D)."""
        return region_features(self.shapes.captions, self.shapes.cells, self.shapes.features)

    def prepare(self, way: str) -> Callable[[], object]:
        features = self.features()
        decoder = self.build()
        if way == TEXTBOOK:
            plain = as_textbook(decoder)
            pool = textbook("decoders").pool_regions
            adam = torch.optim.Adam(plain.parameters(), lr=4e-4)
            return lambda: _step(
                plain, adam, lambda: self.textbook_loss(plain, pool(features, CELLS, GRID))
            )
        decoder.compile_loops()
        adam = torch.optim.Adam(decoder.parameters(), lr=4e-4, fused=True)
        return lambda: _step(decoder, adam, lambda: self.loss(decoder, features))

    def loss(self, decoder: Decoder, features: Tensor, owners: Tensor | None = None) -> Tensor:
        """As the training loop forms it."""
        return self.loss_of(decoder.teacher_forced(features, self.words, self.lengths, owners))

    def loss_of(self, output: TeacherForced) -> Tensor:
        """The same, of what the decoder said."""
        targets = targets_of(self.targets, self.lengths)
        entropy, attention = loss_sums(output, targets, self.lengths, "one")
        return entropy / int(self.lengths.sum()) + attention / len(self.lengths)

    def textbook_loss(self, decoder: nn.Module, regions: Tensor) -> Tensor:
        """As the papers have it."""
        logits, alphas = decoder(regions, self.words, self.lengths)
        return textbook("decoders").textbook_loss(logits, alphas, self.targets, self.lengths)

    def check(self) -> None:
        """Equal loss and equal gradients, without dropout; in the precision of the buffers."""
        ours, features = self.build(), self.features()
        theirs = as_textbook(ours)
        ours.dropout = theirs.dropout = nn.Identity()
        regions = textbook("decoders").pool_regions(features, CELLS, GRID)
        losses = self.loss(ours, features), self.textbook_loss(theirs, regions)
        torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-5)
        for loss in losses:
            loss.backward()
        assert_same_gradients(gradients_of(ours), gradients_of_textbook(theirs))


def _step(model: nn.Module, adam: torch.optim.Optimizer, loss: Callable[[], Tensor]) -> float:
    adam.zero_grad()
    value = loss()
    value.backward()
    parameters = [p for group in adam.param_groups for p in group["params"]]
    norm = float(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    if norm > CLIP:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(CLIP / norm)
    adam.step()
    return value.item()


# -- the same weights in both forms ----------------------------------------------------------------


def as_textbook(decoder: Decoder) -> Any:
    """The textbook's decoder with the weights of ours."""
    width, vocab_size = decoder.config.hidden_size, decoder.vocab_size
    module = textbook("decoders")
    attention = isinstance(decoder, AttentionDecoder)
    build = module.TextbookAttention if attention else module.TextbookRNN
    plain = build(vocab_size, _feature_size(decoder), width)
    state = {name: tensor.clone() for name, tensor in textbook_tensors(decoder).items()}
    buffers = {n: b for n, b in decoder.state_dict().items() if n not in state}
    state |= {n: b.clone() for n, b in buffers.items() if n in plain.state_dict()}
    if attention:
        state["score.bias"] = torch.zeros(1)  # we have none: the softmax cancels it
    plain.load_state_dict(state)
    return plain.to(next(decoder.parameters()))


def _feature_size(decoder: Decoder) -> int:
    first = decoder.initial_hidden
    linear = first[0] if isinstance(first, nn.Sequential) else first
    return linear.in_features  # type: ignore[return-value]


def textbook_tensors(decoder: Decoder, of: Callable[[Tensor], Any] = lambda p: p.detach()) -> dict:
    """Our parameters (or what `of` gives for each) under the textbook's names."""
    own = {name: of(parameter) for name, parameter in decoder.named_parameters()}
    if not isinstance(decoder, AttentionDecoder):
        return {name.replace("_l0", ""): tensor for name, tensor in own.items()}
    widths = decoder._widths
    weights, biases = own.pop("from_hidden.weight"), own.pop("from_hidden.bias")
    for part, weight, bias in zip(
        ("query", "gate", "hidden"), weights.split(widths), biases.split(widths), strict=True
    ):
        own |= {f"{part}.weight": weight, f"{part}.bias": bias}
    own["lstm.weight_hh"], own["lstm.bias_hh"] = own.pop("hidden.weight"), own.pop("hidden.bias")
    read = [own.pop("from_word.weight"), own.pop("from_context.weight")]
    own["lstm.weight_ih"], own["lstm.bias_ih"] = torch.cat(read, dim=1), own.pop("from_word.bias")
    return own


def gradients_of(decoder: Decoder) -> dict[str, Tensor]:
    """Our gradients under the textbook's names."""
    tensors = textbook_tensors(decoder, lambda parameter: parameter.grad)
    if "score.weight" in tensors:
        tensors["score.bias"] = torch.zeros(1)
    return tensors


def assert_same_gradients(
    ours: dict[str, Tensor], theirs: dict[str, Tensor], *, tolerance: float = 1e-3
) -> None:
    """Equal but for rounding in single precision, each tensor by its norm.

    A gradient that is zero in exact arithmetic (a bias before a batch norm) is held to the size of
    the others.
    """
    assert ours.keys() == theirs.keys()
    whole = torch.stack([gradient.norm() for gradient in theirs.values()]).norm()
    for name, gradient in ours.items():
        difference = (gradient - theirs[name]).norm()
        assert difference <= tolerance * theirs[name].norm() + 1e-6 * whole, (
            f"{name}: the gradients differ by {difference:.1e} of {theirs[name].norm():.1e}"
        )


def gradients_of_textbook(plain: nn.Module) -> dict[str, Tensor]:
    """The gradients of a plain module, by its own names."""
    return {n: p.grad for n, p in plain.named_parameters() if p.grad is not None}


# -- with the encoder ------------------------------------------------------------------------------


class FineTuningStep(TrainingStep):
    """The same on pixels, with a ResNet-101 that is trained from its second stage on.

    The textbook encodes a picture for each of its captions; here captions of a picture share its
    encoding and its backward pass.

    Args:
        decoder: `rnn` or `attention`.
        shapes: As above.
        backbone: timm's name of the CNN.
        side: Of the pictures, in pixels.
        captions_per_picture: Captions of whole pictures, of any length, as `train.batch_by picture`
            puts them together; with 1, captions of nearly one length with a picture each.
    """

    def __init__(
        self,
        decoder: str,
        shapes: Shapes,
        *,
        backbone: str,
        side: int,
        captions_per_picture: int = 5,
    ) -> None:
        self.captions_per_picture = captions_per_picture
        super().__init__(decoder, shapes)
        self.name = f"{decoder}, fine-tuning step ({backbone}, {side} px)"
        self.backbone, self.side = backbone, side

    def _draw(self, shapes: Shapes) -> None:
        each = self.captions_per_picture
        if each == 1:
            super()._draw(shapes)
            self.owners = torch.arange(len(self.lengths))
            return
        self.words, self.targets, self.lengths, self.owners = picture_batch(
            shapes.captions // each, each, shapes.vocabulary
        )

    def arithmetic(self) -> list[Term]:
        return []

    def encoder(self) -> Encoder:
        """The trained encoder."""
        torch.manual_seed(1)
        config = EncoderConfig(
            name=self.backbone, weights="random", image_size=self.side, fine_tune=True
        )
        backbone = timm.create_model(self.backbone, num_classes=0, global_pool="")
        return Encoder(config, settle_norms(backbone, self.side)).train()

    def pixels(self) -> Tensor:
        """(P, 3, S, S) uint8."""
        generator = torch.Generator().manual_seed(3)
        size = (int(self.owners.max()) + 1, 3, self.side, self.side)
        return torch.randint(256, size, generator=generator, dtype=torch.uint8)

    def prepare(self, way: str) -> Callable[[], object]:
        encoder, decoder, pixels = self.encoder(), self.build(), self.pixels()
        if way == PICTELL:
            decoder.compile_loops()
            adam = self._adam(decoder, encoder)
            return lambda: _step(
                decoder, adam, lambda: self.loss(decoder, encoder(pixels), self.owners)
            )
        plain, module = as_textbook(decoder), textbook("decoders")
        encode = self._textbook_encoder(encoder)
        repeated = pixels[self.owners].float() / 255
        adam = self._adam(plain, encode)

        def loss() -> Tensor:
            regions = module.pool_regions(encode(repeated), CELLS, GRID)
            return self.textbook_loss(plain, regions)

        return lambda: _step(plain, adam, loss)

    @staticmethod
    def _textbook_encoder(encoder: Encoder) -> nn.Module:
        """The same backbone in the default layout; batch norms stay in eval mode, as ours do."""
        return textbook("encoding").TextbookEncoder(copy.deepcopy(encoder.backbone))

    @staticmethod
    def _adam(decoder: nn.Module, encoder: nn.Module) -> torch.optim.Optimizer:
        trained = [p for p in encoder.parameters() if p.requires_grad]
        groups = [
            {"params": list(decoder.parameters()), "lr": 4e-4},
            {"params": trained, "lr": 1e-4},
        ]
        return torch.optim.Adam(groups, fused=isinstance(decoder, Decoder))

    def check(self) -> None:
        """Equal loss and equal gradients of the encoder's trained weights."""
        encoder, ours, pixels = self.encoder(), self.build(), self.pixels()
        encode, theirs = self._textbook_encoder(encoder), as_textbook(ours)
        ours.dropout = theirs.dropout = nn.Identity()
        loss = self.loss(ours, encoder(pixels), self.owners)
        cells = encode(pixels[self.owners].float() / 255)
        regions = textbook("decoders").pool_regions(cells, CELLS, GRID)
        expected = self.textbook_loss(theirs, regions)
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)
        loss.backward()
        expected.backward()
        ours, theirs = (
            gradients_of_textbook(encoder.backbone),
            gradients_of_textbook(encode.get_submodule("backbone")),
        )
        assert ours
        assert_same_gradients(ours, theirs, tolerance=1e-2)  # rounding grows through a deep CNN


def settle_norms(backbone: nn.Module, side: int) -> nn.Module:
    """Give the batch norms of random weights the statistics of noise, so that nothing explodes."""
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        noise = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(4))
        backbone.train().forward_features(noise)  # type: ignore[operator]
    return backbone.eval()
