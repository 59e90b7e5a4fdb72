"""recipes/nano/table.py: men, women, and the worst voice."""

import sys
from pathlib import Path

import pytest

from esdcodec.audio import write
from esdcodec.evaluation.evaluate import Coding
from esdcodec.evaluation.metrics import METRICS
from esdcodec.evaluation.report import COLUMNS
from esdcodec.evaluation.summary import FileScores
from esdcodec.evaluation.systems import PEERS
from tests.conftest import speech

RECIPE = Path(__file__).parents[2] / "recipes/nano"


@pytest.fixture
def table(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPE))
    import table

    yield table
    sys.modules.pop("table")


def scores_of(table, voices: dict[str, list[float]]) -> list[FileScores]:
    coding = Coding(seconds=1.0, decoded="")
    files = [(f"{voice}_{i:02d}.wav", value) for voice, values in voices.items() for i, value in enumerate(values)]
    return [
        FileScores(file, "ours", {"distillmos": value, "stoi": value / 5}, coding, table.voice_of(file))
        for file, value in files
    ]


def test_men_women_and_the_worst_voice_have_a_line_each(table):
    voices = {"am_low": [1.0, 2.0], "bm_high": [3.0, 3.0, 3.0, 3.0], "af_one": [4.0, 4.5]}
    lines = table.lines_of(scores_of(table, voices))
    assert [(who, stoi.split()[0], mos.split()[0]) for _, who, _, stoi, _, mos, *_ in lines] == [
        ("men", "0.500", "2.50"),
        ("women", "0.850", "4.25"),
        ("am_low, 1.42 below the mean of voices", "0.300", "1.50"),
    ]


def test_what_is_scored_and_shown_exists(table):
    assert set(table.METRICS) <= METRICS.keys()
    assert set(table.SHOWN) <= COLUMNS.keys()
    assert set(table.BESIDE) <= PEERS.keys()


def test_a_voice_is_the_first_two_words_of_a_name(table):
    assert [table.voice_of(name) for name in ("am_onyx_03.wav", "cf_small_00_let-m-oko.wav")] == ["am_onyx", "cf_small"]


def test_the_sets_of_a_folder_are_scored(table, model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(table, "METRICS", ("stoi",))
    monkeypatch.setattr(table, "WORST_BY", "stoi")
    for name in ("am_x_00", "bf_y_00"):
        (tmp_path / "test/unseen").mkdir(parents=True, exist_ok=True)
        write(tmp_path / f"test/unseen/{name}.wav", speech(1.0)[0, 0].numpy(), 24000)
    arguments = [str(tmp_path / "test"), "--model", str(model), "--output", str(tmp_path / "scores"), "--peers"]
    assert table.main([*arguments, "--sets", "unseen"]) == 0
    assert capsys.readouterr().out == (tmp_path / "scores/table.md").read_text() + "\n"
    assert "| women |" in (tmp_path / "scores/table.md").read_text()
