"""The recipe's settings: nano.yaml and what is given beside it, as types that refuse what cannot be run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from analysis import HOP, LATENT_DIM, RATE
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from recordings import DataSettings
from yaml import YAMLError

from esdcodec import ESDCodec
from esdcodec.config import config_folder
from esdcodec.model_codec.discriminator import Discriminator
from esdcodec.training.settings import ConfigurationError, ModelSettings, OptimizerSettings, RunSettings, parse
from esdcodec.training.setup import without_weights


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """How one network of a stage learns."""

    lr: float
    muon_lr: float | None = None  # radians a step, of convolutions
    betas: tuple[float, float] = (0.9, 0.99)
    warmup_steps: int = 50
    final_ratio: float = 0.05  # of the learning rate, at the stage's last step
    clip_grad_norm: float = 5.0

    def __post_init__(self) -> None:
        self.optimizer(steps=1)  # refuses what cannot be

    def optimizer(self, steps: int) -> OptimizerSettings:
        return OptimizerSettings(
            lr=self.lr,
            muon_lr=self.muon_lr,
            betas=self.betas,
            weight_decay=0.01,
            warmup_steps=self.warmup_steps,
            decay_steps=steps,
            final_lr=self.final_ratio * self.lr,
            clip_grad_norm=self.clip_grad_norm,
        )


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """`stages.NAME` of the recipe."""

    steps: int
    batch_size: int  # segments
    n_frames: int  # of a segment
    n_validation: int  # segments
    networks: dict[str, NetworkSettings]
    loss_weights: dict[str, float]
    noise: float = 0.0  # added to given latents: what the encoder will not tell exactly is no surprise then
    ema_decay: float | None = None  # of the weights that are validated and handed on
    options: dict[str, int] = field(default_factory=dict)  # of this stage alone

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "n_frames", "n_validation"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name}={getattr(self, name)} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The whole recipe."""

    seed: int
    model: ModelSettings  # conf/model/25hz_nano.yaml
    discriminator_below: dict[str, Any]  # of the output up to 3 kHz; that of the whole one is `model.discriminator`
    discriminator_fine: dict[str, Any]  # of the whole output in the last stage
    data: DataSettings
    trainer: dict[str, Any]  # of `RunSettings` what all stages share
    stages: dict[str, StageSettings]

    def __post_init__(self) -> None:
        codec = without_weights(ESDCodec, self.model.codec, "model.codec")
        if (codec.config["latent_dim"], codec.hop_length, codec.sample_rate) != (LATENT_DIM, HOP, RATE):
            raise ConfigurationError(
                f"model.codec must have a latent_dim of {LATENT_DIM}, and frames of {HOP} samples at {RATE} Hz"
            )
        without_weights(Discriminator, self.discriminators["below"], "discriminator_below")
        without_weights(Discriminator, self.discriminators["whole"], "model.discriminator")
        without_weights(Discriminator, self.discriminators["fine"], "discriminator_fine")

    @property
    def discriminators(self) -> dict[str, dict[str, Any]]:
        """Sizes of those of the output `below` 3 kHz, of the `whole` one, and of that in `fine` windows."""
        return {
            "below": self.discriminator_below,
            "whole": self.model.discriminator or {},
            "fine": self.discriminator_fine,
        }

    def run(self, stage: str, folder: Path) -> RunSettings:
        own = {"output_dir": str(folder / stage), "seed": self.seed, "max_steps": self.stages[stage].steps}
        return parse(RunSettings, {**self.trainer, **own}, "trainer")


def read_settings(overrides: Sequence[str] = ()) -> Settings:
    """nano.yaml with `KEY=VALUE` changed.

    Raises:
        ConfigurationError: a setting is not what it should be; the message names its key.
    """
    config = OmegaConf.load(Path(__file__).with_name("nano.yaml"))
    config.model = OmegaConf.load(config_folder() / "model/25hz_nano.yaml")
    try:
        config.merge_with_dotlist(list(overrides))
        values = cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigurationError(f"{' '.join(overrides)} cannot be read: {error}") from error
    return parse(Settings, values)


def check_names(where: str, found: Iterable[str], expected: Iterable[str]) -> None:
    """That settings are given for what there is, and nothing else."""
    if set(found) != set(expected):
        raise ConfigurationError(f"{where} must name {', '.join(expected) or 'nothing'}, not {', '.join(found)}")
