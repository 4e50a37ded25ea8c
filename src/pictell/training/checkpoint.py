"""The run folder: everything that a training leaves behind.

run = RunFolder("runs/flickr8k_attention")
decoder = run.load_decoder()

config.yaml         all options, defaults included
vocab.json          words by number
run.json            data hash, versions, hardware, encoder, sizes, best epoch, duration
model.safetensors   weights of the best epoch (the encoder's too when it was fine-tuned)
log.jsonl           a line every few steps and a line each epoch
neighbours.npz      the training pictures and their captions, once `search.neighbours` was used
state/last.pt       where training stands, for --resume
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from pictell.config import Config
from pictell.data.text import Vocabulary
from pictell.decoders.base import Decoder, build_decoder
from pictell.encoders.encoder import Encoder, load_encoder
from pictell.errors import InputError
from pictell.files import read_json, replacing, write_json, write_text


class RunFolder:
    """Paths, reading and writing of one run."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.vocabulary_file = self.path / "vocab.json"
        self.info_file = self.path / "run.json"
        self.model_file = self.path / "model.safetensors"
        self.log_file = self.path / "log.jsonl"
        self.neighbours_file = self.path / "neighbours.npz"
        self.state_file = self.path / "state" / "last.pt"
        self.soft_targets_file = self.path / "state" / "soft_targets.npz"

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """A run folder that can be used.

        Raises:
            InputError: It is missing, no run folder, or without weights.
        """
        run = cls(path)
        if not run.path.is_dir():
            raise InputError(f"{path}: no such run folder; pictell train CONFIG makes one")
        if not run.config_file.exists():
            raise InputError(f"{path}: not a run folder (it holds no config.yaml)")
        if not run.model_file.exists():
            raise InputError(
                f"{path}: no weights yet (model.safetensors is missing); finish the training with "
                f"pictell train {run.config_file} --resume"
            )
        return run

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def config(self) -> Config:
        """The run's options."""
        return Config.load(self.config_file)

    @property
    def vocabulary(self) -> Vocabulary:
        """The run's words."""
        return Vocabulary.load(self.vocabulary_file)

    @property
    def info(self) -> dict[str, Any]:
        """What run.json holds."""
        return read_json(self.info_file, what="run.json of a run folder")

    def write_start(self, config: Config, vocabulary: Vocabulary, info: dict[str, Any]) -> None:
        """Write what is known before the first step."""
        write_text(self.config_file, config.to_yaml())
        write_text(self.vocabulary_file, vocabulary.to_json())
        write_json(self.info_file, info)

    def update_info(self, **values: Any) -> None:
        """Add to run.json."""
        write_json(self.info_file, {**self.info, **values})

    def save_model(self, decoder: Decoder, encoder: Encoder | None) -> None:
        """Write the weights of the best epoch; the encoder's only if it was trained."""
        parts: dict[str, nn.Module] = {"decoder": decoder}
        if encoder is not None and encoder.trained:
            parts["encoder"] = encoder.backbone
        tensors = {
            # A copy: a tied matrix has two names, and the format has no shared tensors.
            f"{part}.{name}": tensor.detach().cpu().contiguous().clone()
            for part, module in parts.items()
            for name, tensor in module.state_dict().items()
        }
        with replacing(self.model_file) as temporary:
            safetensors.torch.save_file(tensors, temporary)

    def weights(self, part: str) -> dict[str, Tensor]:
        """The best epoch's weights of `decoder` or `encoder`, by name.

        Raises:
            InputError: The file is broken.
        """
        try:
            tensors = safetensors.torch.load_file(self.model_file)
        except Exception as error:  # the library's own error types are not public
            raise InputError(f"{self.model_file}: not readable ({error})") from None
        prefix = part + "."
        return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

    def load_decoder(self) -> Decoder:
        """The decoder of the best epoch, in eval mode.

        Raises:
            InputError: The weights do not fit the config.
        """
        config, info = self.config, self.info
        decoder = build_decoder(
            config.decoder,
            vocab_size=len(self.vocabulary),
            feature_size=info["encoder"]["feature_size"],
            cells=tuple(info["encoder"]["grid"]),
            pooled_grid=config.encoder.pooled_grid,
        )
        try:
            decoder.load_state_dict(self.weights("decoder"))
        except RuntimeError as error:
            reason = str(error).splitlines()[1:2]
            raise InputError(
                f"{self.model_file}: does not fit config.yaml ({' '.join(reason).strip()})"
            ) from None
        return decoder.eval()

    def load_encoder(self, weights: str = "") -> Encoder:
        """The encoder that the run was trained with; `weights` replaces where they come from.

        Raises:
            InputError: A frozen encoder's weights are not the ones of the training.
        """
        config = self.config.encoder
        if weights:
            config = replace(config, weights=weights)
        if config.fine_tune:
            if weights:
                warnings.warn(f"{self.path}: has a fine-tuned encoder of its own", stacklevel=2)
            return load_encoder(config, self.weights("encoder"))
        encoder = load_encoder(config)
        known = self.info["encoder"]["key"]
        if encoder.fingerprint() != known:
            raise InputError(
                f"{self.path}: was trained with other encoder weights than those found now for "
                f"{config.name} ({config.weights}); give the right ones with --weights FILE"
            )
        return encoder

    def save_state(self, state: dict[str, Any]) -> None:
        """Write where training stands."""
        with replacing(self.state_file) as temporary:
            torch.save(state, temporary)

    def load_state(self) -> dict[str, Any]:
        """Read where training stands.

        Raises:
            InputError: There is no such state, or the file is broken.
        """
        if not self.state_file.exists():
            raise InputError(f"{self.path}: nothing to resume (no {self.state_file.name})")
        try:
            return torch.load(self.state_file, map_location="cpu", weights_only=True)
        except Exception as error:  # unpickling garbage raises nearly anything
            raise InputError(
                f"{self.state_file}: not readable ({type(error).__name__}); train again without "
                "--resume"
            ) from None


def models_hash(runs: Sequence[RunFolder]) -> str:
    """sha256 of a run's weights; of several runs that write together that of their hashes."""
    hashes = []
    for run in runs:
        with open(run.model_file, "rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def run_path(config: Config, file: Path) -> Path:
    """The run folder that a config file means: its own `run`, else runs/NAME.

    A config.yaml inside a run folder means that folder.
    """
    if config.run:
        return Path(config.run)
    if file.name == "config.yaml" and (file.parent / "run.json").exists():
        return file.parent
    return Path("runs") / file.stem
