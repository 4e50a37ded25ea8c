"""The first weights of a training that begins where another one ended.

first = FirstWeights(config)                  # config.train.init names the run
first.load_into(decoder, encoder)
"""

from __future__ import annotations

from typing import Any

from pictell.config import Config
from pictell.decoders.base import Decoder
from pictell.encoders.encoder import Encoder, load_encoder
from pictell.errors import InputError
from pictell.training.checkpoint import RunFolder, models_hash

# Options that give a weight its meaning without showing in its shape.
_SAME = (
    "decoder.name",
    "decoder.activation",
    "decoder.tied_embedding",
    "encoder.name",
    "encoder.pooled_grid",
    "data.language",
)


class FirstWeights:
    """The weights of the best epoch of another run.

    Args:
        config: The new experiment; `train.init` names the run.

    Raises:
        InputError: The folder holds no usable run, or its networks are not the config's.
    """

    def __init__(self, config: Config) -> None:
        self.run, self.config = RunFolder.open(config.train.init), config
        theirs = self.run.config
        for name in _SAME:
            section, option = name.split(".")
            before, now = (getattr(getattr(c, section), option) for c in (theirs, config))
            if before != now:
                raise self._error(f"it was trained with {name} = {before!r}, not {now!r}")
        if theirs.encoder.fine_tune and not config.encoder.fine_tune:
            raise self._error(
                "it has a fine-tuned encoder of its own; go on with --encoder.fine_tune true"
            )

    def _error(self, reason: str) -> InputError:
        return InputError(f"train.init is {self.config.train.init!r}, but {reason}")

    def encoder(self) -> Encoder | None:
        """The run's fine-tuned encoder; None if it has none of its own."""
        if not self.run.config.encoder.fine_tune:
            return None
        return load_encoder(self.config.encoder, self.run.weights("encoder"))

    def load_into(self, decoder: Decoder, encoder: Encoder) -> None:
        """Give the decoder its first weights.

        Raises:
            InputError: They do not fit, or belong to features of another encoder.
        """
        try:
            decoder.load_state_dict(self.run.weights("decoder"))
        except RuntimeError as error:
            reason = " ".join(str(error).splitlines()[1:2]).strip()
            raise self._error(f"its weights do not fit this config ({reason})") from None
        frozen = not self.run.config.encoder.fine_tune
        if frozen and not encoder.trained and encoder.fingerprint() != self._key():
            raise self._error(
                "its frozen encoder had other weights or another picture size than this config's"
            )

    def _key(self) -> str:
        return self.run.info["encoder"]["key"]

    def description(self) -> dict[str, Any]:
        """For run.json: which weights these were."""
        return {"run": self.config.train.init, "model_sha256": models_hash([self.run])}
