"""Decoders small enough to be computed again by hand, and what they read."""

import torch

from pictell.config import DecoderConfig
from pictell.data.text import START
from pictell.decoders.base import Decoder, build_decoder
from pictell.encoders.grid import pooling_matrix

FEATURES, HIDDEN, ATTENTION, EMBEDDING, VOCABULARY = 10, 6, 5, 4, 9
LENGTHS = torch.tensor([5, 3, 3, 1])


def tiny_decoder(name: str, cells=(3, 3), pooled_grid=5, **options) -> Decoder:
    """A decoder in float64, with the pooling in float64 too, in eval mode."""
    widths = {"embedding_size": EMBEDDING, "hidden_size": HIDDEN, "attention_size": ATTENTION}
    config = DecoderConfig(name=name, **{**widths, **options})
    torch.manual_seed(0)
    decoder = build_decoder(
        config, vocab_size=VOCABULARY, feature_size=FEATURES, cells=cells, pooled_grid=pooled_grid
    ).double()
    for parameter in decoder.parameters():  # so that every term shows
        torch.nn.init.normal_(parameter, std=0.5)
    decoder.pool = pooling_matrix(cells, decoder.grid)
    decoder.pool_mean = decoder.pool.mean(dim=0)
    return decoder.eval()


def tiny_batch(cells=9) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (4, cells, FEATURES) and words (4, 5), `<start>` first."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(4, cells, FEATURES, dtype=torch.float64, generator=generator)
    words = torch.randint(4, VOCABULARY, (4, 5), generator=generator)
    words[:, 0] = START
    return features, words
