"""Laws of the summary: means are over what has a score, intervals cover the truth, groups are told apart."""

import math

import numpy as np
import pytest

from esdcodec.evaluation.reference import Reference
from esdcodec.evaluation.report import codebook_usage, group_table, same_content, table, warnings
from esdcodec.evaluation.summary import Estimate, FileScores, by_group, summarise
from tests.evaluation.recordings import scored


def rows():
    return [
        scored(f"{i}", {"stoi": value, "word_errors": errors, "words": 10}, n_bytes=100)
        for i, (value, errors) in enumerate([(0.5, 0), (0.7, 2), (0.9, 1), (math.nan, 5)])
    ]


def test_means_ratios_and_rates():
    summary = summarise(rows())["x"]
    assert summary["stoi"].value == pytest.approx(0.7)
    assert 0.5 <= summary["stoi"].low < 0.7 < summary["stoi"].high <= 0.9
    assert summary["stoi"].n_files == 3
    assert summary["wer"].value == pytest.approx(8 / 40)
    assert summary["kbps"] == pytest.approx(400 * 8 / 8 / 1000)
    assert "words" not in summary


def test_a_file_without_words_moves_no_rate():
    nothing = scored("4", {"stoi": math.nan, "word_errors": math.nan, "words": math.nan}, n_bytes=100)
    assert summarise([*rows(), nothing])["x"]["wer"].value == pytest.approx(8 / 40)
    assert "wer" not in summarise([nothing])["x"]


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        results = [scored(str(i), {"stoi": value}) for i, value in enumerate(rng.normal(0.5, 0.1, 40))]
        estimate = summarise(results)["x"]["stoi"]
        covered += estimate.low <= 0.5 <= estimate.high
    assert 86 <= covered <= 100


def test_table():
    text = table({"x": {"stoi": Estimate(0.71234, 0.7, 0.73)}, "y": {"nominal": 0.85}}, intervals=True)
    assert text.splitlines() == [
        "| system | kbps | STOI ↑        |",
        "| ------ | ---- | ------------- |",
        "| x      |      | 0.712 ± 0.015 |",
        "| y      | 0.85 |               |",
    ]


def test_systems_with_different_files_say_how_many():
    results = [scored("a", {"stoi": 0.5}), scored("b", {"stoi": 0.7}), scored("a", {"stoi": 0.5}, "y")]
    assert table(summarise(results)).splitlines()[0] == "| system | files | STOI ↑ |"
    assert "files" not in table(summarise(results[:2]))


def test_codebook_usage():
    results = [
        scored("a", {}, "x n=2", codes=[[0, 1, 1, 3], [5, 5, 5, 5]]),
        scored("a", {}, "x n=1", codes=[[0, 1, 1, 3]]),  # among them
    ]
    first, second = codebook_usage(results, (4, 8, 8))
    assert first == {"codebook": 0, "used": 0.75, "perplexity": pytest.approx(2**1.5), "entropy_bits": 1.5}
    assert second["used"] == 0.125


class TestGroups:
    @pytest.fixture
    def results(self):
        found = []
        for group, ours, original, errors in (("anna", 3.0, 4.4, 1), ("bert", 2.0, 4.0, 4)):
            for i in range(2):
                words = {"word_errors": errors, "words": 10}
                found.append(scored(f"{group}/{i}", {"distillmos": ours + i / 10, **words}, group=group))
                found.append(scored(f"{group}/{i}", {"distillmos": original}, "original", group=group))
        return found

    def test_each_has_its_mean(self, results):
        groups = by_group(results)
        assert list(groups) == ["anna", "bert"]
        assert groups["anna"]["x"]["distillmos"].value == pytest.approx(3.05)
        assert groups["bert"]["original"]["distillmos"].value == pytest.approx(4.0)
        assert groups["bert"]["x"]["wer"].value == pytest.approx(0.4)

    def test_the_worst_is_named_beside_its_originals(self, results):
        lines = group_table(summarise(results), by_group(results)).splitlines()
        assert [line.split("|")[2].strip() for line in lines[2:6]] == ["all", "anna", "bert", "**worst**"]
        assert "2.05 (bert, original 4.00)" in lines[5]
        assert "0.400 (bert)" in lines[5]
        assert "± " in lines[3]


class TestWarnings:
    def test_late_audio_is_named(self):
        results = [scored(f"{i}", {}, delay_ms=20.0) for i in range(5)] + [scored("5", {}, delay_ms=4.0)]
        assert warnings(results) == ["x is late: 5 files (0 by 20 ms, 1 by 20 ms, 2 by 20 ms, …)"]
        assert summarise(results)["x"]["late"] == 5
        assert "late files" in table(summarise(results))

    @pytest.mark.parametrize(("longer", "said"), [(0.1, "longer than the original: cut"), (-0.1, "shorter")])
    def test_another_length_is_named(self, longer, said):
        assert said in warnings([scored("a", {}, longer=longer)])[0]
        assert warnings([scored("a", {}, longer=longer / 5)]) == []

    def test_silence_and_missing_scores_are_named(self):
        result = scored("a", {"stoi": math.nan}, silent=True)
        result = FileScores(**{**vars(result), "notes": {"stoi": "the original is silent"}})
        assert warnings([result]) == [
            "x is silent where the original is not: 1 file (a)",
            "no stoi of x, the original is silent: 1 file (a)",
        ]

    def test_a_recording_that_counts_twice_is_named(self, tmp_path):
        twice = [Reference(tmp_path / name, name, content) for name, content in (("a", "1"), ("b", "1"), ("c", "2"))]
        assert same_content(twice) == ["one recording counts 2 times: a, b"]
