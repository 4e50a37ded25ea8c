"""The LSTM decoder with additive attention over the picture's regions.

    decoder = build_decoder(DecoderConfig(name="attention"), vocab_size=2600, feature_size=2048,
                            cells=(8, 8), pooled_grid=14)

After Xu et al. 2015, "Show, Attend and Tell" (deterministic "soft" attention, section 4.2), with
the additive scores of Bahdanau et al. 2015. The decoder attends over L = 196 pooled regions, but
keeps the C = 64 cells that the encoder gives and pools what is linear in them (see
encoders/grid.py): keys are projected for the cells and pooled afterwards, and the attention
weights are pulled back to the cells before the context is summed.

Axes: see base.py; A attention width, E embedding width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pictell.config import DecoderConfig
from pictell.decoders.additive import AdditiveScoring
from pictell.decoders.attending_lstm import Weights, attending_lstm
from pictell.decoders.base import Decoder, State, Step, TeacherForced, counts_of, pack, per_caption
from pictell.decoders.dropout import Dropout
from pictell.decoders.lstm import as_products_read, lstm_cell, start_remembering
from pictell.decoders.products import Linear
from pictell.decoders.repeated import RepeatedLinear, WordGates


class AttentionDecoder(Decoder):
    """An LSTM that reads [word ; gate * context], where the context is chosen by its last state.

    query   = Q h + q                                        (A,)
    e_l     = v . activation(K f_l + k + query)              regions l = 1..L
    alpha   = softmax(e)                                     (L,)
    context = sum_l alpha_l f_l                              (D,)
    gate    = sigmoid(G h + g)                               (D,)
    h, c    = LSTM([word ; gate * context], h, c)
    """

    loops = True
    options = frozenset({"attention_size", "activation", "gate"})

    def __init__(self, config: DecoderConfig, **shape: Any) -> None:
        super().__init__(config, **shape)
        hidden, attention = config.hidden_size, config.attention_size
        self.embedding = nn.Embedding(self.vocab_size, config.embedding_size)
        self.initial_hidden = Linear(self.region_size, hidden)
        self.initial_cell = Linear(self.region_size, hidden)
        self.key = Linear(self.region_size, attention)
        self.score = nn.Linear(attention, 1, bias=False)  # softmax would cancel a bias
        self.scoring = AdditiveScoring(config.activation)
        # Query, gate and the recurrent part of the LSTM's gates all read the hidden state: they are
        # one product. nn.Linear draws weights by the width it reads, so that stacking them changes
        # nothing in how they start.
        self._widths = [attention, self.region_size * config.gate, 4 * hidden]
        self.from_hidden = RepeatedLinear(hidden, sum(self._widths))
        self.from_word = nn.Linear(config.embedding_size, 4 * hidden)
        self.from_context = RepeatedLinear(self.region_size, 4 * hidden, bias=False)
        self.dropout = Dropout(config.dropout)
        self.vocabulary = RepeatedLinear(hidden, self.vocab_size)
        self._word_gates = WordGates()
        self._reset(hidden**-0.5)
        start_remembering(self.from_word.bias, config.forget_bias)

    def _reset(self, bound: float) -> None:
        for layer in (self.from_word, self.from_context):  # as torch's LSTMCell draws its weights
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.vocabulary.weight, -0.1, 0.1)
        nn.init.zeros_(self.vocabulary.bias)

    def _prepare(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is computed once per picture: keys (B, L, A), first hidden and cell (B, H)."""
        keys = self.pool @ self.key(features)  # rows of P sum to one: the bias stays as it is
        mean = self.mean_region(features)
        return keys, self.initial_hidden(mean), self.initial_cell(mean)

    def _attend(self, keys: Tensor, features: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Attention (B, K, L) and context (B, K, D) for queries (B, K, A)."""
        scores = self.scoring.scores(keys, query, self.score.weight[0])
        attention = scores.softmax(dim=-1)  # (B, K, L)
        return attention, (attention @ self.pool) @ features

    def _advance(
        self, keys: Tensor, features: Tensor, word_gates: Tensor, hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """One word: new hidden and cell (B, K, H), attention (B, K, L), gate (B, K, D) or None.

        `word_gates` (B, K, 4H) is the word's part of the LSTM's gates.
        """
        query, gate, hidden_gates = self.from_hidden(hidden).split(self._widths, dim=-1)
        attention, context = self._attend(keys, features, query)
        opened = gate.sigmoid() if self.config.gate else None
        if opened is not None:
            context = context * opened
        gates = word_gates + hidden_gates + self.from_context(context)
        return *lstm_cell(gates, cell), attention, opened

    def compile_loops(self) -> bool:
        return self.scoring.compile()

    def teacher_forced(
        self, features: Tensor, words: Tensor, lengths: Tensor, owners: Tensor | None = None
    ) -> TeacherForced:
        features = self.regions(features)
        prepared = self._prepare(features)
        keys, hidden, cell = (per_caption(part, owners) for part in prepared)
        features = per_caption(as_products_read(features), owners)
        word_gates = self.word_products(
            pack(words, lengths), self.from_word.weight, self.from_word.bias
        )
        keys, pool, word_gates = map(as_products_read, (keys, self.pool, word_gates))
        hidden, cell = map(as_products_read, (hidden, cell))
        weights = Weights(*map(as_products_read, self._shared_weights()))
        with torch.autocast(features.device.type, enabled=False):  # all has its precision by now
            hidden_states, sums = attending_lstm(
                keys,
                features,
                pool,
                word_gates,
                hidden,
                cell,
                weights,
                counts_of(lengths),
                self.scoring,
            )
        return TeacherForced(self.vocabulary(self.dropout(hidden_states)), sums)

    def _shared_weights(self) -> Weights:
        hidden = self.from_hidden
        return Weights(hidden.weight, hidden.bias, self.from_context.weight, self.score.weight[0])

    def start(self, features: Tensor) -> State:
        features = self.regions(features)
        keys, hidden, cell = self._prepare(features)
        return State((keys, features), (hidden[:, None], cell[:, None]))

    def step(self, state: State, words: Tensor) -> Step:
        keys, features = state.images
        if self.training:
            word_gates = self.from_word(self.word_vectors(words))
        else:
            word_gates = self._word_gates(
                words, self.embedding.weight, self.from_word.weight, self.from_word.bias
            )
        hidden, cell, attention, gate = self._advance(keys, features, word_gates, *state.beams)
        return Step(self.vocabulary(hidden), State(state.images, (hidden, cell)), attention, gate)
