"""Folders of synthetic speech, and the evaluation of them from the command line."""

import json
import math
from pathlib import Path

import numpy as np

from esdcodec.cli.main import main
from esdcodec.evaluation.evaluate import Coding
from esdcodec.evaluation.reference import read_reference
from esdcodec.evaluation.summary import FileScores
from tests.conftest import write_speech

COPY = "copy=cp {input} {output}"


def three_files(folder: Path) -> Path:
    for i, name in enumerate(("one.wav", "a/two.flac", "a/three.wav")):
        write_speech(folder / name, 1.0 + 0.2 * i, seed=i)
    return folder


def evaluate(*args: object) -> int:
    """The exit code of `esdcodec evaluate`."""
    return main(["evaluate", *map(str, args)])


def summary_in(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())["systems"]


def reference(file: Path, folder: Path | None = None):
    return read_reference(file, folder or file.parent)


def scored(file: str, scores: dict[str, float], system: str = "x", seconds: float = 2.0, group: str = "", **coding):
    return FileScores(file, system, scores, Coding(seconds, "", **coding), group)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 0.02 * rng.standard_normal(math.ceil(seconds * 24000)).astype(np.float32)
