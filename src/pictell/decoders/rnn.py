"""The plain LSTM decoder: the picture enters through the initial state only.

    decoder = build_decoder(DecoderConfig(name="rnn"), vocab_size=2600, feature_size=2048,
                            cells=(8, 8), pooled_grid=14)

After Vinyals et al. 2015, "Show and Tell", with the picture in the state instead of the first word.

Axes: see base.py.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from pictell.config import DecoderConfig
from pictell.decoders.base import Decoder, State, Step, TeacherForced, counts_of, pack, per_caption
from pictell.decoders.dropout import Dropout
from pictell.decoders.lstm import lstm_cell, lstm_over_words, start_remembering
from pictell.decoders.products import Linear
from pictell.decoders.repeated import RepeatedLinear, RepeatedProduct, WordGates


class _BatchNorm(nn.BatchNorm1d):
    """A batch of one caption has no spread: it is normalised by the statistics learnt so far."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or len(input) > 1:
            return super().forward(input)
        return nn.functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class RNNDecoder(Decoder):
    """h0 = BatchNorm(FC(mean region)), c0 likewise; then one LSTM over the words."""

    attends = False

    def __init__(self, config: DecoderConfig, **shape: Any) -> None:
        super().__init__(config, **shape)
        hidden, region_size = config.hidden_size, self.region_size
        self.embedding = nn.Embedding(self.vocab_size, config.embedding_size)
        self.initial_hidden = nn.Sequential(Linear(region_size, hidden), _BatchNorm(hidden))
        self.initial_cell = nn.Sequential(Linear(region_size, hidden), _BatchNorm(hidden))
        self.lstm = nn.LSTM(config.embedding_size, hidden)
        self.dropout = Dropout(config.dropout)
        self.vocabulary = RepeatedLinear(hidden, self.vocab_size)
        self._word_gates, self._hidden_gates = WordGates(), RepeatedProduct()
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.vocabulary.weight, -0.1, 0.1)
        nn.init.zeros_(self.vocabulary.bias)
        start_remembering(self.lstm.all_weights[0][2], config.forget_bias)

    def _initial(self, features: Tensor, owners: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean = per_caption(self.mean_region(self.regions(features)), owners)  # (B, D)
        # The batch norm's statistics are those of captions: a picture with five counts five times.
        return self.initial_hidden(mean), self.initial_cell(mean)  # (B, H) each

    def teacher_forced(
        self, features: Tensor, words: Tensor, lengths: Tensor, owners: Tensor | None = None
    ) -> TeacherForced:
        hidden, cell = self._initial(features, owners)
        # On a CPU oneDNN has no LSTM in bfloat16 where the processor has no AVX-512; our loop is in
        # full precision there, and only the products around it are in half.
        if features.is_cuda:
            return self._library_lstm(hidden, cell, words, lengths)
        from_word, recurrent, bias, second_bias = self.lstm.all_weights[0]
        # The words' part of the gates is one product: it does not depend on the state.
        word_gates = self.word_products(pack(words, lengths), from_word, bias + second_bias)
        outputs, _ = lstm_over_words(word_gates, hidden, cell, recurrent, counts_of(lengths))
        return TeacherForced(self.vocabulary(self.dropout(outputs)), None)  # (N, V)

    def _library_lstm(
        self, hidden: Tensor, cell: Tensor, words: Tensor, lengths: Tensor
    ) -> TeacherForced:
        """The same by torch's own LSTM, which is one kernel on a GPU."""
        packed = pack_padded_sequence(words, lengths, batch_first=True)
        embedded = PackedSequence(self.word_vectors(packed.data), packed.batch_sizes)  # (N, E)
        outputs, _ = self.lstm(embedded, (hidden[None], cell[None]))
        return TeacherForced(self.vocabulary(self.dropout(outputs.data)), None)  # (N, V)

    def start(self, features: Tensor) -> State:
        hidden, cell = self._initial(features)
        return State((), (hidden[:, None], cell[:, None]))

    def step(self, state: State, words: Tensor) -> Step:
        hidden, cell = state.beams  # (B, K, H)
        from_word, recurrent, bias, second_bias = self.lstm.all_weights[0]
        if self.training:
            word_gates = linear(self.word_vectors(words), from_word, bias)
        else:
            word_gates = self._word_gates(words, self.embedding.weight, from_word, bias)
        gates = word_gates + self._hidden_gates(hidden, recurrent, second_bias)  # (B, K, 4H)
        hidden, cell = lstm_cell(gates, cell)
        return Step(self.vocabulary(hidden), State((), (hidden, cell)))
