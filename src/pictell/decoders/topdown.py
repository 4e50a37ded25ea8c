"""The decoder with two LSTMs, one that directs attention and one that writes.

    decoder = build_decoder(DecoderConfig(name="topdown"), vocab_size=2600, feature_size=2048,
                            cells=(8, 8), pooled_grid=14)

After Anderson et al. 2018, "Bottom-Up and Top-Down Attention for Image Captioning and Visual
Question Answering", section 3.2, over the cells of a grid instead of detected objects. As in
attention.py all that is linear in the L regions is done on the C cells.

Axes: see base.py; A attention width, E embedding width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pictell.config import DecoderConfig
from pictell.decoders.additive import AdditiveScoring
from pictell.decoders.base import Decoder, State, Step, TeacherForced, counts_of, pack, per_caption
from pictell.decoders.dropout import Dropout
from pictell.decoders.lstm import lstm_cell, start_remembering
from pictell.decoders.products import Linear
from pictell.decoders.repeated import RepeatedLinear
from pictell.decoders.topdown_lstm import Weights, topdown_lstm


class TopDownDecoder(Decoder):
    """An LSTM asks where to look, a second one reads the answer and writes.

    h, c    = LSTM([g_ ; mean f ; word], h_, c_)             equation 2; g_, h_ of the last word
    e_l     = v . activation(K f_l + k + Q h)                equation 3, regions l = 1..L
    alpha   = softmax(e)                                     equation 4
    context = sum_l alpha_l f_l                              equation 5
    g, d    = LSTM([context ; h], g_, d_)                    equation 6
    logits  = W g + b                                        equation 7
    """

    loops = True
    options = frozenset({"attention_size", "activation"})

    def __init__(self, config: DecoderConfig, **shape: Any) -> None:
        super().__init__(config, **shape)
        hidden, attention = config.hidden_size, config.attention_size
        self.embedding = nn.Embedding(self.vocab_size, config.embedding_size)
        self.from_word = nn.Linear(config.embedding_size, 4 * hidden)
        self.from_picture = Linear(self.region_size, 4 * hidden, bias=False)
        # What reads one LSTM's state is one product. Of the attention LSTM: query, gates of the
        # language LSTM, its own gates at the next word. Of the language LSTM: gates of both at
        # the next word.
        self._widths = [attention, 4 * hidden, 4 * hidden]
        self.from_attention = RepeatedLinear(
            hidden, sum(self._widths), bias=False
        )  # the keys have one
        self.from_language = RepeatedLinear(hidden, 8 * hidden, bias=False)
        self.from_context = RepeatedLinear(self.region_size, 4 * hidden)
        self.key = Linear(self.region_size, attention)
        self.score = nn.Linear(attention, 1, bias=False)  # softmax would cancel a bias
        self.scoring = AdditiveScoring(config.activation)
        self.dropout = Dropout(config.dropout)
        self.vocabulary = RepeatedLinear(hidden, self.vocab_size)
        self._reset(hidden**-0.5)
        for layer in (self.from_word, self.from_context):
            start_remembering(layer.bias, config.forget_bias)

    def _reset(self, bound: float) -> None:
        # As torch's LSTMCell draws its weights; the layers that read a state draw theirs so anyway.
        for layer in (self.from_word, self.from_picture, self.from_context):
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.vocabulary.weight, -0.1, 0.1)
        nn.init.zeros_(self.vocabulary.bias)

    def compile_loops(self) -> bool:
        return self.scoring.compile()

    def _prepare(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Once per picture: keys (B, L, A), its part of the attention LSTM's gates (B, 4H)."""
        keys = self.pool @ self.key(features)  # rows of P sum to one: the bias stays as it is
        return keys, self.from_picture(self.mean_region(features))

    def teacher_forced(
        self, features: Tensor, words: Tensor, lengths: Tensor, owners: Tensor | None = None
    ) -> TeacherForced:
        features = self.regions(features)
        keys, from_picture = (per_caption(part, owners) for part in self._prepare(features))
        counts = counts_of(lengths)
        gates = self.word_products(pack(words, lengths), self.from_word.weight, self.from_word.bias)
        hidden, sums = topdown_lstm(
            keys,
            per_caption(features, owners),
            self.pool,
            gates + torch.cat([from_picture[:n] for n in counts]),
            Weights(
                self.from_attention.weight,
                self.from_language.weight,
                self.from_context.weight,
                self.from_context.bias,
                self.score.weight[0],
            ),
            counts,
            self.scoring,
        )
        return TeacherForced(self.vocabulary(self.dropout(hidden)), sums)

    def start(self, features: Tensor) -> State:
        features = self.regions(features)
        images = (*self._prepare(features), features)
        nothing = features.new_zeros(len(features), 1, self.config.hidden_size)
        return State(images, (nothing.repeat(1, 1, 8), nothing, nothing))

    def step(self, state: State, words: Tensor) -> Step:
        keys, from_picture, features = state.images
        recurrent, cell, language_cell = state.beams  # (B, K, 8H): both LSTMs'; (B, K, H) each
        attention_gates, language_gates = recurrent.chunk(2, dim=-1)
        gates = self.from_word(self.word_vectors(words)) + from_picture[:, None] + attention_gates
        hidden, cell = lstm_cell(gates, cell)
        query, to_language, again = self.from_attention(hidden).split(self._widths, dim=-1)
        attention = self.scoring.scores(keys, query, self.score.weight[0]).softmax(dim=-1)
        context = (attention @ self.pool) @ features  # (B, K, D)
        gates = self.from_context(context) + to_language + language_gates
        language, language_cell = lstm_cell(gates, language_cell)
        recurrent = self.from_language(language)
        recurrent[..., : again.shape[-1]] += again
        beams = recurrent, cell, language_cell
        return Step(self.vocabulary(language), State(state.images, beams), attention)
