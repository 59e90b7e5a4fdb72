"""Settings refuse what cannot be run, in one line that names the key, before anything is built."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from esdcodec.config import config_folder
from esdcodec.training import setup
from esdcodec.training.settings import ConfigurationError, Filters, TrainingSettings, parse
from tests.training.runs import compose_values

CONFIGS = sorted(path.stem for path in config_folder().glob("*.yaml") if "_tts_" not in path.stem)
MODELS = sorted(path.stem for path in (config_folder() / "model").glob("*.yaml") if not path.stem.startswith("tts"))
DATA = sorted(path.stem for path in (config_folder() / "data").glob("*.yaml") if path.stem not in ("tokens", "codes"))


def values(config: str = "esdcodec_smoke", *overrides: str) -> dict:
    return compose_values("trainer.output_dir=run", *overrides, config=config)


@pytest.mark.parametrize("config", CONFIGS)
def test_every_configuration_can_be_run(config):
    """Its keys are fields of the settings and arguments of the networks, so none is unused or missing."""
    settings = setup.check(values(config))
    assert isinstance(settings.data.filters, Filters)


@pytest.mark.parametrize("override", [*(f"model={name}" for name in MODELS), *(f"data={name}" for name in DATA)])
def test_every_choice_of_a_group_can_be_run(override):
    setup.check(values("esdcodec_train", override))


def test_every_path_of_the_machine_is_referred_to():
    files = "\n".join(path.read_text() for path in Path(config_folder()).rglob("*.yaml"))
    for key in OmegaConf.load(config_folder() / "machine/default.yaml"):
        assert f"${{machine.{key}}}" in files


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.max_steps=many"], r"trainer\.max_steps='many' must be a whole number"),
        (["trainer.max_steps=2.5"], r"trainer\.max_steps=2\.5 must be a whole number"),
        (["trainer.batch_size=0"], r"trainer\.batch_size=0 must be at least 1"),
        (["trainer.log_every=0"], r"trainer\.log_every=0 must be at least 1"),
        (["trainer.tf32=1"], r"trainer\.tf32=1 must be true or false"),
        (["trainer.generator.lr=-1"], r"trainer\.generator\.lr=-1\.0 must be positive"),
        (["trainer.generator.betas=[0.9]"], r"trainer\.generator\.betas=\[0\.9\] must be a list"),
        (["trainer.discriminator.betas=[0.9,1]"], r"trainer\.discriminator\.betas=.* below 1"),
        (["trainer.generator=null"], r"trainer\.generator=None must be a group of settings"),
        (["+trainer.batchsize=2"], r"trainer\.batchsize is no setting: did you mean trainer\.batch_size\?"),
        (["~trainer.seed"], r"trainer\.seed is missing"),
        (["trainer.ema_decay=1"], r"trainer\.ema_decay=1\.0 must be between 0 and 1"),
        (["trainer.semantic_only_probability=2"], r"trainer\.semantic_only_probability=2\.0 must be from 0 to 1"),
        (["trainer.mixed_precision=fp16"], r"trainer\.mixed_precision='fp16' .* float16"),
        (["trainer.tracker=comet_ml"], r"trainer\.tracker='comet_ml' its package is not installed"),
        (["trainer.freeze=[coder]"], "the codec has no part 'coder', but encoder"),
        (["trainer.freeze=encoder"], r"trainer\.freeze='encoder' must be a list"),
        (["~trainer.loss_weights.mel"], r"trainer\.loss_weights\.mel is missing"),
        (["~trainer.loss_weights.adversarial"], r"trainer\.loss_weights\.adversarial is missing"),
        (["+trainer.loss_weights.mell=1"], r"trainer\.loss_weights\.mell is no term of the objective"),
        (["trainer.loss_weights.mel=loud"], r"trainer\.loss_weights\.mel='loud' must be a number"),
        (["data.segment_speech.segment_length=0"], r"data\.segment_speech\.segment_length=0 must be"),
        (["data.segment_speech.per_utterance=0"], r"data\.segment_speech\.per_utterance=0 must be"),
        (["data.filters.languages=en"], r"data\.filters\.languages='en' must be a list"),
        (["data.num_workers=-1"], r"data\.num_workers=-1 must not be negative"),
        (["data.max_broken_share=5"], r"data\.max_broken_share=5\.0 must be from 0 to 1"),
        (["+model.codec.encoder_dims=4"], r"model\.codec\.encoder_dims is no setting: did you mean .*encoder_dim\?"),
        (["model.codec.encoder_rates=[2,2]"], r"model\.codec: encoder_rates"),
        (["model.codec.latent_dim=wide"], r"model\.codec: "),
        (["+model.discriminator.window=1"], r"model\.discriminator\.window is no setting: did you mean .*windows\?"),
        (["+model.teacher={path: x, statistics: null, layer: 0, pool: 2}"], r"model\.teacher\.layer=0 must be at"),
        (["model.discriminator=null", "trainer.init_discriminator=x"], r"trainer\.init_discriminator is given, but"),
        (["+other=1"], r"other is no setting: known are data, machine, model, trainer"),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line_that_names_the_key(overrides, message):
    with pytest.raises(ConfigurationError, match=f"^{message}" if not message.startswith("the") else message) as found:
        setup.check(values("esdcodec_smoke", *overrides))
    assert "\n" not in str(found.value)


def test_weights_of_terms_that_there_are_not_may_be_missing():
    optional = ("distillation", "adversarial", "feature_matching", "low_band_mel")
    gone = [f"~trainer.loss_weights.{name}" for name in optional]
    setup.check(values("esdcodec_smoke", "model.discriminator=null", "trainer.semantic_only_probability=0", *gone))


def test_numbers_are_taken_as_they_are_meant():
    settings = parse(TrainingSettings, values("esdcodec_smoke", "trainer.max_steps=1e6", "trainer.clip_grad_norm=1"))
    assert settings.trainer.max_steps == 1_000_000
    assert isinstance(settings.trainer.max_steps, int)
    assert isinstance(settings.trainer.clip_grad_norm, float)


def test_nothing_is_built_before_the_settings_are_checked(monkeypatch):
    def built(*arguments: object, **options: object) -> None:
        raise AssertionError("something was built")

    for name in ("make_accelerator", "make_networks", "make_loaders", "make_teacher", "Source", "load"):
        monkeypatch.setattr(setup, name, built)
    with pytest.raises(ConfigurationError):
        setup.make_trainer(OmegaConf.create(values("esdcodec_smoke", "trainer.log_every=0")))
