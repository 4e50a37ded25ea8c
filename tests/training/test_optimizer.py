from types import SimpleNamespace

import torch

from pictell.config import DecoderConfig, TrainConfig
from pictell.decoders.base import build_decoder
from pictell.training.optimizer import build_optimizer


def optimizer(*, trained=(), **options) -> torch.optim.Optimizer:
    config = DecoderConfig(name="rnn", embedding_size=4, hidden_size=6)
    decoder = build_decoder(config, vocab_size=9, feature_size=5, cells=(2, 2), pooled_grid=0)
    return build_optimizer(TrainConfig(**options), decoder, SimpleNamespace(trained=list(trained)))  # type: ignore[arg-type]


def test_adam_has_a_rate_for_each_network():
    weights = torch.nn.Parameter(torch.zeros(2, 2))
    adam = optimizer(trained=[weights])
    assert type(adam) is torch.optim.Adam
    assert [group["lr"] for group in adam.param_groups] == [4e-4, 1e-4]
    assert adam.param_groups[1]["params"] == [weights]
    assert all(group["weight_decay"] == 0 for group in adam.param_groups)


def test_adamw_shrinks_matrices_only():
    adamw = optimizer(optimizer="adamw", weight_decay=0.1)
    assert type(adamw) is torch.optim.AdamW
    seen = 0
    for group in adamw.param_groups:
        for parameter in group["params"]:
            assert (group["weight_decay"] == 0.1) == (parameter.dim() > 1)
            seen += 1
    assert seen == 15  # none is left out: 2 x (linear, norm), LSTM, embedding, vocabulary


def test_adamw_by_hand_after_one_step():
    adamw = optimizer(optimizer="adamw", weight_decay=0.5, decoder_lr=0.1)
    matrix = adamw.param_groups[0]["params"][0]
    before = matrix.detach().clone()
    matrix.grad = torch.ones_like(matrix)
    adamw.step()
    # Loshchilov and Hutter 2019, algorithm 2: w - lr (decay w + 1), since m / sqrt(v) is 1.
    torch.testing.assert_close(matrix.detach(), before - 0.1 * (0.5 * before + 1))
