"""The notebooks run from their first cell to their last on tiny sizes, and hold no outputs."""

import json
import os
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, write_speech
from tests.speaking import make_speaking_model

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
TINY = {  # what a notebook reads of the environment
    "STEPS": "2",
    "WIDTH": "16",
    "LAYERS": "1",
    "FRAMES": "60",
    "NEW_FRAMES": "3",
    "SETTINGS": "model=tiny data.segment_speech.segment_length=9600 data.segment_speech.validation_length=9600 "
    "data.shuffle_window=8 data.num_workers=0 trainer.batch_size=1 trainer.validate_every=2 trainer.sample_every=2 "
    "trainer.checkpoint_every=2",
}
WRITTEN = {  # by the commands in it, whose failures are no exceptions of the notebook
    "quickstart": ["talk.esd"],
    "language_model": ["tokens/*.manifest.json"],
    "speech_from_text": ["said.wav", "my.voice"],
    "fine_tune": ["run/export/model.safetensors"],
}


def cells(notebook: Path) -> list[dict]:
    return [cell for cell in json.loads(notebook.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(notebook):
    assert not [cell for cell in cells(notebook) if cell["outputs"] or cell["execution_count"] is not None]


@pytest.fixture(scope="module")
def speech_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    for seed in range(3):
        write_speech(folder / f"{seed}.wav", 2.5, seed=seed)
    return folder


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook, codec, model, speech_folder, tmp_path, tmp_path_factory, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason='no nbformat: `pip install -e ".[dev]"`')
    nbclient = pytest.importorskip("nbclient", reason='no nbclient: `pip install -e ".[dev]"`')
    pytest.importorskip("ipykernel", reason='no ipykernel: `pip install -e ".[dev]"`')
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    given = {"MODEL": model, "SPEECH": str(speech_folder), "PATH": path, "PYTHONPATH": str(ROOT)}
    if notebook.stem == "speech_from_text":
        given["TTS"] = str(make_speaking_model(codec, model, tmp_path_factory.mktemp("speaking")))
    for name, value in {**TINY, **given, "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "agg"}.items():
        monkeypatch.setenv(name, value)
    told = nbformat.read(notebook, as_version=4)
    nbclient.NotebookClient(told, timeout=PATIENCE, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert not [text for text in texts(told) if "Traceback" in text or "error:" in text]
    assert not [text for text in texts(told) if "the same codes: False" in text]
    assert all(list(tmp_path.glob(file)) for file in WRITTEN[notebook.stem])


def texts(notebook) -> list[str]:
    """What the cells printed."""
    return [output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])]
