"""The LSTM decoder that may look away: adaptive attention with a visual sentinel.

    decoder = build_decoder(DecoderConfig(name="adaptive"), vocab_size=2600, feature_size=2048,
                            cells=(8, 8), pooled_grid=14)

After Lu et al. 2017, "Knowing When to Look: Adaptive Attention via a Visual Sentinel for Image
Captioning". Attention follows the LSTM here instead of feeding it, so that under teacher forcing
only the LSTM is a loop; all else is done for all words at once.

The linear layer and ReLU before attention are applied to the C cells that the encoder gives, and
their results pooled. (ReLU does not commute with pooling: where a region is the mean of several
cells, this is not the same as pooling first. Where each region lies in one cell it is.) All that
follows is linear in the regions, and done on the cells (see encoders/grid.py).

Axes: see base.py; A attention width, E embedding width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from pictell.config import DecoderConfig
from pictell.decoders.additive import AdditiveScoring, scores_over_words
from pictell.decoders.base import (
    Decoder,
    State,
    Step,
    TeacherForced,
    counts_of,
    pack,
    per_caption,
    unpack,
)
from pictell.decoders.dropout import Dropout
from pictell.decoders.lstm import lstm_cell, lstm_over_words, start_remembering
from pictell.decoders.products import Linear
from pictell.decoders.repeated import RepeatedLinear


class AdaptiveDecoder(Decoder):
    """An LSTM whose word is chosen from its state and a mix of picture and sentinel.

    v_l      = relu(V f_l + v)                                (H,)   cells, then pooled to regions
    picture  = relu(U mean f + u)                             (H,)
    h, c     = LSTM([word ; picture], h_, c_)                        equation 1, h_ of the last word
    sentinel = sigmoid(X [word ; picture] + Y h_) * tanh(c)   (H,)   equations 9 and 10
    e_l      = v . activation(K v_l + k + Q h)                       equation 6, regions l = 1..L
    e_s      = v . activation(S sentinel + Q h)                      equation 12
    beta     = softmax([e ; e_s])_s, alpha = softmax(e)              equations 12 and 7
    context  = beta sentinel + (1 - beta) sum_l alpha_l v_l          equation 11
    logits   = W (context + h) + b                                   equation 13

    The share of the picture, 1 - beta, is the gate of a step; alpha is its attention.
    """

    loops = True
    options = frozenset({"attention_size", "activation"})

    def __init__(self, config: DecoderConfig, **shape: Any) -> None:
        super().__init__(config, **shape)
        hidden, attention = config.hidden_size, config.attention_size
        self.embedding = nn.Embedding(self.vocab_size, config.embedding_size)
        self.cell_values = Linear(self.region_size, hidden)
        self.picture = Linear(self.region_size, hidden)
        # The LSTM's gates and the sentinel's read the same three things: five rows of H each.
        self.from_word = nn.Linear(config.embedding_size, 5 * hidden)
        self.from_picture = Linear(hidden, 5 * hidden, bias=False)
        self.from_hidden = RepeatedLinear(hidden, 5 * hidden, bias=False)
        self.key = Linear(hidden, attention)
        self.query = nn.Linear(hidden, attention, bias=False)  # the keys have a bias
        self.sentinel_key = nn.Linear(hidden, attention)
        self.score = nn.Linear(attention, 1, bias=False)  # softmax would cancel a bias
        self.scoring = AdditiveScoring(config.activation)
        self.dropout = Dropout(config.dropout)
        self.vocabulary = RepeatedLinear(hidden, self.vocab_size)
        self._reset(hidden**-0.5)
        start_remembering(self.from_word.bias[: 4 * hidden], config.forget_bias)

    def _reset(self, bound: float) -> None:
        for layer in (self.from_word, self.from_picture, self.from_hidden):  # as torch's LSTMCell
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -bound, bound)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.vocabulary.weight, -0.1, 0.1)
        nn.init.zeros_(self.vocabulary.bias)

    def compile_loops(self) -> bool:
        return self.scoring.compile()

    def _prepare(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Once per picture: keys (B, L, A), values (B, C, H), its part of the gates (B, 5H)."""
        features = self.regions(features)
        values = self.cell_values(features).relu()  # (B, C, H)
        keys = self.pool @ self.key(values)  # rows of P sum to one: the bias stays as it is
        picture = self.picture(self.mean_region(features)).relu()
        return keys, values, self.from_picture(picture)

    def _mix(
        self, scores: Tensor, pooled_values: Tensor, hidden: Tensor, sentinel: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Context (..., H) and share of the picture (..., 1).

        Takes the regions' scores (..., L), sum_l alpha_l v_l (..., H), and the LSTM's state and the
        sentinel (..., H).
        """
        summed = self.sentinel_key(sentinel) + self.query(hidden)  # (..., A)
        activated = summed.relu() if self.config.activation == "relu" else summed.tanh()
        # Softmax over the regions and one more: what the regions get together, against that one.
        regions = scores.logsumexp(dim=-1, keepdim=True)
        share = (regions - self.score(activated)).sigmoid()  # (..., 1), 1 - beta
        return share * pooled_values + (1 - share) * sentinel, share

    def teacher_forced(
        self, features: Tensor, words: Tensor, lengths: Tensor, owners: Tensor | None = None
    ) -> TeacherForced:
        keys, values, from_picture = (per_caption(part, owners) for part in self._prepare(features))
        counts = counts_of(lengths)
        given = self.word_products(pack(words, lengths), self.from_word.weight, self.from_word.bias)
        given = given + torch.cat([from_picture[:n] for n in counts])
        hidden, sentinel = self._read_words(given, counts)
        queries, vector = self.query(hidden), self.score.weight[0]
        scores = scores_over_words(keys, queries, vector, counts, self.scoring)
        attention = scores.softmax(dim=-1)  # (N, L)
        of_caption = unpack(attention, counts)  # (B, T, L)
        values = pack((of_caption @ self.pool) @ values, lengths)  # (N, H)
        context, _ = self._mix(scores, values, hidden, sentinel)
        logits = self.vocabulary(self.dropout(context + hidden))
        return TeacherForced(logits, of_caption.sum(dim=1))

    def _read_words(self, given: Tensor, counts: list[int]) -> tuple[Tensor, Tensor]:
        """Hidden states and sentinels (N, H) from the words' and pictures' part of the gates."""
        width = self.config.hidden_size
        gates, sentinel_gates = given.split([4 * width, width], dim=1)
        recurrent, to_sentinel = self.from_hidden.weight.split([4 * width, width])
        nothing = given.new_zeros(counts[0], width)
        hidden, cells = lstm_over_words(gates, nothing, nothing, recurrent, counts)
        of_word = [nothing.to(hidden), *hidden.split(counts)]
        before = torch.cat([of_word[t][:n] for t, n in enumerate(counts)])
        return hidden, (sentinel_gates + linear(before, to_sentinel)).sigmoid() * cells.tanh()

    def start(self, features: Tensor) -> State:
        nothing = features.new_zeros(len(features), 1, self.config.hidden_size)
        return State(self._prepare(features), (nothing, nothing))

    def step(self, state: State, words: Tensor) -> Step:
        keys, values, from_picture = state.images
        hidden, cell = state.beams  # (B, K, H)
        width = self.config.hidden_size
        gates = self.from_word(self.word_vectors(words)) + from_picture[:, None]
        gates, sentinel_gate = (gates + self.from_hidden(hidden)).split([4 * width, width], dim=-1)
        hidden, cell = lstm_cell(gates, cell)
        sentinel = sentinel_gate.sigmoid() * cell.tanh()
        scores = self.scoring.scores(keys, self.query(hidden), self.score.weight[0])
        attention = scores.softmax(dim=-1)  # (B, K, L)
        context, share = self._mix(scores, (attention @ self.pool) @ values, hidden, sentinel)
        logits = self.vocabulary(context + hidden)
        return Step(logits, State(state.images, (hidden, cell)), attention, share)
