"""Small codecs and synthetic speech that all tests share."""

import os

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # the processes share the cores; their threads would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from esdcodec import ESDCodec, load
from esdcodec.published import CONSTANTS, our_name
from esdcodec.training.initialise import fit_to_latents
from tests import weights

DATA = Path(__file__).parent / "data"
WEB = Path(__file__).parents[1] / "web"
OLDEST_NODE = 20
PATIENCE = 900.0  # seconds after which something hangs; no test measures time, and a machine may be busy

TINY = {
    "encoder_dim": 4,
    "encoder_rates": [2, 3, 4, 5],
    "latent_dim": 32,
    "semantic_codebook_size": 256,
    "semantic_dim": 16,
    "semantic_hidden": 32,
    "semantic_blocks": 2,
    "acoustic_codebooks": 5,
    "acoustic_codebook_size": 64,
    "acoustic_codebook_dim": 4,
    "condition_dim": 16,
    "condition_hidden": 32,
    "condition_blocks": 2,
    "decoder_dim": 32,
    "decoder_rates": [5, 4, 3, 2],
}


def speech(seconds: float, seed: int = 0, sample_rate: int = 24000) -> torch.Tensor:
    """A speech-like signal ``[1, 1, T]``."""
    return torch.from_numpy(weights.waveform(seconds, sample_rate, seed=seed))[None, None]


def write_speech(
    file: Path, seconds: float = 1.0, seed: int = 0, *, gain: float = 1.0, rate: int = 24000, **options: object
) -> Path:
    """A recording of `speech`; `options` are soundfile's."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, gain * speech(seconds, seed=seed, sample_rate=rate)[0, 0].numpy(), rate, **options)
    return file


def make_tiny_codec(seed: int = 0) -> ESDCodec:
    torch.manual_seed(seed)
    codec = ESDCodec(**TINY)
    fit_to_latents(codec, speech(2.0))  # an untrained one sends the same codes whatever it hears
    return codec.eval()


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """A law that holds for nearly all random tensors must not fail one run in a hundred."""
    torch.manual_seed(0)


@pytest.fixture
def tiny_codec() -> ESDCodec:
    return make_tiny_codec()


@pytest.fixture(scope="module")
def recording() -> torch.Tensor:
    """Speech with a pause ``[1, 1, T]``."""
    return torch.cat([speech(1.0), speech(0.7, seed=1), torch.zeros(1, 1, 6000), speech(0.8, seed=2)], dim=-1)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a saved small codec, as commands take it with `--model`."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_tiny_codec().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def codec(model: str) -> ESDCodec:
    """The codec that `model` holds; no test changes it."""
    return load(model, device="cpu")


@pytest.fixture(scope="session")
def published_weights() -> dict[str, torch.Tensor]:
    """A checkpoint in the published layout, its values made by rule."""
    shapes = json.loads((DATA / "shapes_25hz_v1.json").read_text())
    return {name: torch.from_numpy(value) for name, value in weights.state_dict(shapes).items()}


@pytest.fixture(scope="session")
def published_codec(published_weights: dict[str, torch.Tensor]) -> ESDCodec:
    codec = ESDCodec()
    codec.load_state_dict({our_name(k): v for k, v in published_weights.items() if k not in CONSTANTS})
    return codec.eval()


@pytest.fixture(scope="session")
def golden() -> dict[str, torch.Tensor]:
    with np.load(DATA / "golden_codec.npz") as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


@pytest.fixture(scope="session")
def w2v_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random teacher in the files of the real one, with statistics in the published format."""
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("w2v-bert")
    config = Wav2Vec2BertConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64, output_hidden_size=32
    )
    Wav2Vec2BertModel(config).save_pretrained(folder)
    SeamlessM4TFeatureExtractor().save_pretrained(folder)
    torch.save({"mean": torch.randn(32), "var": torch.rand(32) + 0.5}, folder / "stats.pt")
    return folder


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The list of four small shards of synthetic speech."""
    from esdcodec.dataset.make_shards import Utterance, write_shards

    folder = tmp_path_factory.mktemp("shards")
    waveforms = (speech(1.5, seed=i)[0, 0].numpy() for i in range(8))
    write_shards((Utterance(f"u{i}", w, 24000, "s", "en") for i, w in enumerate(waveforms)), folder, per_shard=2)
    return folder / "shard.list"


def run_node(*arguments: object) -> str:
    """Standard output of node in `web/`."""
    command = ["node", *map(str, arguments)]
    result = subprocess.run(command, cwd=WEB, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="session")
def node() -> Callable[..., str]:
    """`run_node`, where node and what the page in `web/` is built with are installed; elsewhere the test is skipped."""
    if shutil.which("node") is None:
        pytest.skip(f"no node: install Node {OLDEST_NODE} or newer, and run `npm ci` in web/")
    version = run_node("--version").strip()
    if int(version.removeprefix("v").split(".")[0]) < OLDEST_NODE:
        pytest.skip(f"node {version} is too old: install Node {OLDEST_NODE} or newer")
    if not (WEB / "node_modules").exists():
        pytest.skip("the page's packages are not installed: run `npm ci` in web/")
    return run_node


@pytest.fixture(scope="session")
def tts_folder(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small model that speaks, with the voices `he` and `she`, of which `she` is the default one."""
    pytest.importorskip("transformers")
    pytest.importorskip("sentencex")
    from tests.speech_models import bundle

    return bundle(tmp_path_factory.mktemp("tts"), model)


@pytest.fixture(scope="session")
def tts(tts_folder: Path):
    """The model of `tts_folder`; no test changes it."""
    from esdcodec.tts import load_tts

    return load_tts(tts_folder, device="cpu")
