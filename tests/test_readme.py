"""What the README and the configurations promise is run."""

import re
import shlex
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import esdcodec
from esdcodec import ESDCodec
from esdcodec.cli.main import parser
from esdcodec.config import config_folder
from esdcodec.infer.tokenise import TokeniseSettings, tokenise
from esdcodec.model_codec.discriminator import Discriminator
from esdcodec.training.tasks import TASKS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = (ROOT / "docs/python.md").read_text(encoding="utf-8")
LIVE = (ROOT / "docs/live.md").read_text(encoding="utf-8")
TOKENS = (ROOT / "docs/tokens.md").read_text(encoding="utf-8")
COMPATIBILITY = (ROOT / "docs/compatibility.md").read_text(encoding="utf-8")


def example(name: str, page: str) -> str:
    """The Python block below the marker `<!-- example: NAME -->`."""
    (found,) = re.findall(rf"^<!-- example: {name} -->\n```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_quickstart_runs_and_its_shapes_are_true(tmp_path, monkeypatch):
    (tmp_path / "esdcodec").symlink_to(ROOT / "esdcodec")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    exec(example("quickstart", README), namespace)
    assert (tmp_path / "decoded.wav").stat().st_size > 10000
    length = namespace["codes"].shape[-1]
    assert namespace["codes"].shape == (1, 3, length)
    assert namespace["semantic"].shape == (1, 1, length)
    assert namespace["acoustic"].shape == (1, 2, length)
    assert namespace["decoded"].shape == (1, 1, 960 * length)


def test_the_examples_of_the_live_page_run_and_their_shapes_are_true():
    namespace: dict[str, object] = {}
    exec(example("live", LIVE), namespace)
    assert namespace["decoder"].look_ahead_ms == 120
    assert namespace["audio"].shape[-1] == 6 * 960  # all but what came before: both streams wait for three frames
    exec(example("many", LIVE), namespace)
    assert [codes.shape[:2] for codes in namespace["codes"]] == [(1, 3)] * 3
    exec(example("lost", LIVE), namespace)
    assert torch.cat(namespace["audio"], dim=-1).shape == (1, 1, 6 * 960)


def test_the_examples_of_the_python_page_run_and_their_shapes_are_true():
    namespace: dict[str, object] = {}
    exec(example("batch", PYTHON), namespace)
    assert namespace["codes"].shape == (2, 12, 50)
    assert (namespace["codes"][1, :, 32:] == -1).all()
    assert (namespace["codes"][1, :, :32] >= 0).all()
    assert namespace["decoded"].shape == (2, 1, 48000)
    assert not namespace["decoded"][1, :, 32 * 960 :].any()
    exec(example("stream", PYTHON), namespace)
    assert torch.cat(namespace["codes"], dim=-1).shape == (1, 1, 25)
    assert namespace["stream"].look_ahead_ms == 320
    assert namespace["codec"].stream_encoder().look_ahead_ms == 680
    assert namespace["codec"].stream_decoder().look_ahead_ms == 1600


def test_the_example_with_transformers_runs_and_its_shapes_are_true(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    exec(example("transformers", PYTHON), namespace)
    assert namespace["codes"].shape == (2, 8, 50)
    assert namespace["audio"].shape == (2, 1, 48000)


def test_the_example_of_the_tokens_page_runs():
    namespace: dict[str, object] = {}
    exec(example("patterns", TOKENS), namespace)
    assert namespace["tokens"].shape == namespace["first"].shape == (150,)


def test_a_tokenised_corpus_is_read_back_and_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "speech").mkdir()
    shutil.copy(ROOT / "esdcodec/assets/sample.flac", "speech/talk.flac")
    tokenise(["speech"], "tokens", TokeniseSettings(n_quantizers=3))
    namespace: dict[str, object] = {}
    exec(example("tokens", README), namespace)
    assert namespace["audio"].shape[-1] == 960 * namespace["item"]["frames"]
    assert (tmp_path / "item.png").stat().st_size > 10000
    main: dict[str, object] = {"__name__": "__main__"}
    exec(example("reading", TOKENS).replace("num_workers=2", "num_workers=0"), main)
    assert main["key"] == "talk"
    assert main["sequence"].shape == (3 * namespace["item"]["frames"],)
    assert main["resume_at"] >= 1


def test_the_example_of_the_compatibility_page_runs():
    namespace: dict[str, object] = {}
    exec(example("compatibility", COMPATIBILITY), namespace)
    assert namespace["semantic_codes"].shape == (2, 1, 50)
    assert namespace["acoustic_codes"].shape == (2, 7, 50)
    assert namespace["audio"].shape == (2, 1, 48000)


def test_the_example_of_the_front_page_runs(tmp_path, monkeypatch):
    shutil.copy(ROOT / "esdcodec/assets/sample.flac", tmp_path / "talk.wav")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {}
    exec(example("front", (ROOT / "docs/index.md").read_text(encoding="utf-8")), namespace)
    assert namespace["decoded"].shape[-1] == 960 * namespace["codes"].shape[-1]


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_every_python_block_is_marked_and_so_is_run(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    marked = re.findall(r"^<!-- example: [a-z]+ -->\n```python$", text, re.MULTILINE)
    assert len(marked) == len(re.findall(r"^ *```python$", text, re.MULTILINE))


def test_the_set_up_is_one_block_of_two_commands():
    (block,) = re.findall(r"^<!-- set-up -->\n```bash\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert block.splitlines() == ["pip install -e . && python infer.py", 'pip install -e ".[dev]" && pytest']


def test_commands_of_the_readme_are_understood():
    """Every `esdcodec …` line: its options are those of the program, with its own help as the judge."""
    for line in re.findall(r"^ *esdcodec [^#\n]*", README, re.MULTILINE):
        command = shlex.split(line)[1:]
        parser().parse_args(command)


def test_model_table(tmp_path):
    codec = esdcodec.load(device="cpu")
    (row,) = re.findall(r"^\| `25hz_nano` \|.*", README, re.MULTILINE)
    rates = [codec.bitrate(n) / 1000 for n in (1, 2, 3, 8, 12)]
    assert ", ".join(f"{rate:g}" for rate in rates) in row
    assert f"{sum(p.numel() for p in codec.parameters()) / 1e6:.1f} M" in row


def test_links_inside_the_repository_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


CONFIGURATIONS = sorted(path.stem for path in config_folder().glob("*.yaml"))


@pytest.mark.parametrize("name", [name for name in CONFIGURATIONS if "_tts_" not in name])
class TestConfigurations:
    def compose(self, name, *overrides):
        with initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
            config = compose(name, overrides=["trainer.output_dir=run", *overrides])
            OmegaConf.resolve(config)
        return config

    def test_keys_are_the_constructors_arguments(self, name):
        config = self.compose(name)
        with torch.device("meta"):
            codec = ESDCodec(**config.model.codec)
            if config.model.discriminator is not None:
                Discriminator(**config.model.discriminator)
        assert set(config.model.codec) == set(codec.config)

    def test_the_documented_overrides_apply(self, name):
        config = self.compose(name, "trainer.batch_size=3", "data.segment_speech.segment_length=96000")
        assert (config.trainer.batch_size, config.data.segment_speech.segment_length) == (3, 96000)

    def test_every_loss_has_its_weight(self, name):
        assert set(self.compose(name).trainer.loss_weights) == {
            "mel", "condition_mel", "condition_magnitude", "low_band_mel", "feature_matching", "adversarial",
            "acoustic_commitment", "acoustic_codebook", "semantic_commitment", "distillation",
        }  # fmt: skip


@pytest.mark.parametrize("name", [name for name in CONFIGURATIONS if "_tts_" in name])
def test_configurations_of_speech_from_text_can_be_run(name):
    with initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
        config = compose(name, overrides=["trainer.output_dir=run", "data.batch_size=5"])
    setup = import_module(TASKS[config.task], "esdcodec.training")
    settings = setup.check(OmegaConf.to_container(config, resolve=True))
    assert (settings.task in name, settings.data.batch_size) == (True, 5)


def test_the_published_configuration_is_the_default_network():
    config = OmegaConf.load(config_folder() / "model/25hz.yaml")
    with torch.device("meta"):
        assert dict(config.codec) == ESDCodec().config


def test_the_bundled_model_is_that_of_its_configuration():
    config = OmegaConf.load(config_folder() / "model/25hz_nano.yaml")
    assert dict(config.codec) == esdcodec.load(device="cpu").config


def test_fine_tuning_never_starts_from_random_weights():
    """A `???` would not do: merged over a null it stays null."""
    with initialize_config_dir(str(config_folder().resolve()), version_base="1.3"):
        assert compose("esdcodec_finetune").trainer.init == "25hz_v1"
