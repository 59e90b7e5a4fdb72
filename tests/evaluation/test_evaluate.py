"""Laws of an evaluation: a row is used again only where all that it depends on is the same."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch

from esdcodec.evaluation import metrics
from esdcodec.evaluation.evaluate import Evaluator, Failure
from esdcodec.evaluation.settings import EvaluationSettings
from esdcodec.evaluation.store import Key, ScoreRow, ScoreStore
from tests.conftest import make_tiny_codec, speech, write_speech
from tests.evaluation.recordings import COPY, evaluate, summary_in, three_files


@pytest.fixture
def folder(tmp_path):
    return three_files(tmp_path / "speech")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models that differ in their encoders alone."""
    root = tmp_path_factory.mktemp("models")
    codec = make_tiny_codec()
    codec.save_pretrained(root / "first")
    for weight in codec.encoder.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    codec.save_pretrained(root / "second")
    return root


@pytest.fixture
def computed(monkeypatch):
    """One entry for each time that a ratio is computed."""
    calls = []
    ratio = metrics.si_sdr
    monkeypatch.setattr(metrics, "si_sdr", lambda *signals: calls.append(1) or ratio(*signals))
    return calls


def rows_in(out):
    return [json.loads(line) for line in (out / "scores.jsonl").read_text().splitlines()]


class TestNothingIsMixed:
    def run(self, folder, out, *args):
        assert evaluate(folder, "--output", out, "--metrics", "spectral", *args) == 0
        return summary_in(out)

    def test_two_models_in_one_output(self, folder, models, tmp_path):
        first, second = (
            self.run(folder, tmp_path / "o", "--model", models / name, "--n-quantizers", 1)
            for name in ("first", "second")
        )
        assert list(first) == ["first n=1"]
        assert list(second) == ["second n=1"]
        assert first["first n=1"]["mel"]["value"] != second["second n=1"]["mel"]["value"]

    def test_a_model_that_was_trained_on_under_one_name(self, folder, models, tmp_path, computed):
        shutil.copytree(models / "first", tmp_path / "last")
        before = self.run(folder, tmp_path / "o", "--model", tmp_path / "last", "--n-quantizers", 1)
        shutil.copytree(models / "second", tmp_path / "last", dirs_exist_ok=True)
        after = self.run(folder, tmp_path / "o", "--model", tmp_path / "last", "--n-quantizers", 1)
        assert len(computed) == 6
        assert before["last n=1"]["mel"] != after["last n=1"]["mel"]
        shutil.copytree(models / "first", tmp_path / "last", dirs_exist_ok=True)
        assert self.run(folder, tmp_path / "o", "--model", tmp_path / "last", "--n-quantizers", 1) == before
        assert len(computed) == 6

    def test_another_folder_is_not_pooled(self, folder, tmp_path):
        self.run(folder, tmp_path / "o", "--model", "none", "--command", COPY)
        write_speech(tmp_path / "other/one.wav", seed=7)
        summary = self.run(tmp_path / "other", tmp_path / "o", "--model", "none", "--command", COPY)
        assert summary["copy"]["files"] == 1
        assert len(rows_in(tmp_path / "o")) == 2 * 4  # all are kept

    def test_a_file_that_changed_is_scored_anew(self, folder, tmp_path, computed):
        command = ("--model", "none", "--command", COPY)
        self.run(folder, tmp_path / "o", *command)
        write_speech(folder / "one.wav", seed=9)
        assert self.run(folder, tmp_path / "o", *command)["copy"]["files"] == 3
        assert len(computed) == 4

    def test_another_program_of_one_name_is_another_system(self, folder, tmp_path):
        loud = self.run(folder, tmp_path / "o", "--model", "none", "--command", COPY)
        half = "copy=sox {input} {output} vol 0.5"
        if not shutil.which("sox"):
            pytest.skip("needs sox")
        assert self.run(folder, tmp_path / "o", "--model", "none", "--command", half)["copy"] != loud["copy"]

    def test_another_version_of_a_metric_is_another_metric(self, folder, tmp_path, computed, monkeypatch):
        command = ("--model", "none", "--command", COPY)
        self.run(folder, tmp_path / "o", *command)
        newer = metrics.Metric(**{**vars(metrics.METRICS["spectral"]), "version": 99})
        monkeypatch.setitem(metrics.METRICS, "spectral", newer)
        self.run(folder, tmp_path / "o", *command)
        assert len(computed) == 6

    def test_more_codebooks_than_before(self, folder, models, tmp_path, computed):
        self.run(folder, tmp_path / "o", "--model", models / "first", "--n-quantizers", 1, 3)
        summary = self.run(folder, tmp_path / "o", "--model", models / "first", "--n-quantizers", 1, 3, 5)
        assert list(summary) == ["first n=1", "first n=3", "first n=5"]
        assert len(computed) == 9
        assert len(json.loads((tmp_path / "o/summary.json").read_text())["codebooks"]) == 5
        self.run(folder, tmp_path / "o", "--model", models / "first", "--n-quantizers", 1)
        assert len(json.loads((tmp_path / "o/summary.json").read_text())["codebooks"]) == 1

    def test_a_metric_that_is_asked_for_later(self, folder, tmp_path, computed):
        pytest.importorskip("pystoi")
        command = (folder, "--output", tmp_path / "o", "--model", "none", "--command", COPY, "--metrics")
        assert evaluate(*command, "spectral") == 0
        assert evaluate(*command, "spectral", "stoi") == 0
        assert {"mel", "stoi"} <= set(summary_in(tmp_path / "o")["copy"])
        assert evaluate(*command, "stoi") == 0
        assert "mel" not in summary_in(tmp_path / "o")["copy"]
        assert len(computed) == 3

    def test_nothing_is_decoded_where_nothing_is_missing(self, folder, tmp_path):
        log = tmp_path / "log"
        command = ("--model", "none", "--command", f"copy=echo x >> {log}; cp {{input}} {{output}}")
        for _ in range(2):
            self.run(folder, tmp_path / "o", *command)
        assert log.read_text() == "x\n" * 3

    def test_it_goes_on_where_it_was_stopped(self, folder, models, tmp_path, computed):
        out = tmp_path / "out"
        command = ("--model", models / "first", "--n-quantizers", "1")
        whole = self.run(folder, out, *command)
        lines = (out / "scores.jsonl").read_text().splitlines(keepends=True)
        (out / "scores.jsonl").write_text("".join(lines[:3]) + lines[3][:50])
        assert self.run(folder, out, *command)["first n=1"]["mel"] == whole["first n=1"]["mel"]
        assert len(computed) == 3 + 2
        assert len(ScoreStore(out / "scores.jsonl").rows) == 6

    def test_files_that_share_a_stem_have_their_own_decoded_files(self, tmp_path):
        for i, name in enumerate(("a.wav", "a.flac")):
            write_speech(tmp_path / "speech" / name, seed=i)
        self.run(tmp_path / "speech", tmp_path / "o", "--model", "none", "--command", COPY, "--keep")
        kept = sorted((tmp_path / "o/decoded").rglob("*.wav"))
        assert [file.name for file in kept] == ["a.flac.wav", "a.wav.wav"]
        assert kept[0].read_bytes() != kept[1].read_bytes()
        again = self.run(tmp_path / "speech", tmp_path / "o", "--model", "none", "--decoded", f"kept={kept[0].parent}")
        assert again["kept"]["si_sdr"]["value"] > 50

    def test_kept_files_are_made_where_they_are_missing(self, folder, tmp_path, computed):
        command = ("--model", "none", "--command", COPY)
        self.run(folder, tmp_path / "o", *command)
        self.run(folder, tmp_path / "o", *command, "--keep")
        kept = sorted((tmp_path / "o/decoded").rglob("*.wav"))
        assert len(kept) == 3
        write_speech(kept[0], seed=20)  # of something else
        self.run(folder, tmp_path / "o", *command, "--keep")
        assert soundfile.read(kept[0])[0] == pytest.approx(soundfile.read(folder / "a/three.wav")[0], abs=1e-3)
        assert len(computed) == 3

    def test_results_within_the_folder_are_no_originals(self, folder):
        command = ("--model", "none", "--command", COPY, "--keep")
        for _ in range(2):
            assert self.run(folder, folder / "evaluation", *command)["copy"]["files"] == 3


class TestOneFile:
    def evaluator(self, folder, *commands, metrics=("spectral",), **settings):
        return Evaluator(EvaluationSettings(folder, metrics, commands=commands, **settings))

    def decoded_to(self, folder, tmp_path, waveform, rate=24000):
        (tmp_path / "other").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "other/one.wav", waveform, rate, subtype="FLOAT")
        evaluator = Evaluator(EvaluationSettings(folder, ("spectral",), decoded=(("other", tmp_path / "other"),)))
        return evaluator(folder / "one.wav")

    def test_a_silent_original_has_no_scores(self, tmp_path):
        soundfile.write(tmp_path / "one.wav", np.zeros(24000), 24000)
        result = self.evaluator(tmp_path, ("copy", "cp {input} {output}"))(tmp_path / "one.wav")
        _, row = result.rows
        assert np.isnan(list(row.values.values())).all()
        assert row.note == "the original is silent"
        assert not result.failures

    @pytest.mark.parametrize("ms", [20, -20])
    def test_shifted_audio_is_told(self, folder, tmp_path, ms):
        original = soundfile.read(folder / "one.wav")[0]
        result = self.decoded_to(folder, tmp_path, np.roll(original, ms * 24))
        assert result.rows[0].values["delay_ms"] == pytest.approx(ms, abs=1)

    def test_half_of_a_recording_is_not_scored(self, folder, tmp_path):
        result = self.decoded_to(folder, tmp_path, soundfile.read(folder / "one.wav")[0][:12000])
        assert not result.rows
        assert "0.50 s come out of 1.00 s" in result.failures[0].reason

    def test_a_little_less_is_told(self, folder, tmp_path):
        result = self.decoded_to(folder, tmp_path, soundfile.read(folder / "one.wav")[0][:-2400])
        assert result.rows[0].values["longer"] == pytest.approx(-0.1)

    @pytest.mark.parametrize(
        ("waveform", "said"), [(np.full(24000, np.nan), "NaN"), (np.zeros(0), "holds no samples")], ids=["NaN", "empty"]
    )
    def test_what_is_no_audio_is_not_scored(self, folder, tmp_path, waveform, said):
        result = self.decoded_to(folder, tmp_path, waveform)
        assert not result.rows
        assert said in result.failures[0].reason

    def test_a_stereo_original_is_its_mean(self, tmp_path):
        mono = speech(1.0)[0, 0].numpy()
        soundfile.write(tmp_path / "one.wav", np.stack([1.5 * mono, 0.5 * mono], axis=1), 24000)
        result = self.evaluator(tmp_path, ("copy", "cp {input} {output}"))(tmp_path / "one.wav")
        assert result.rows[1].values["si_sdr"] > 40

    @pytest.mark.parametrize("error", [KeyError("x"), AssertionError(), MemoryError(), ZeroDivisionError()])
    def test_any_error_of_a_metric_is_its_own(self, folder, error):
        def fail(pair):
            raise error

        scorers = {"spectral": metrics.load_metric("spectral"), "stoi": fail}
        settings = EvaluationSettings(folder, tuple(scorers), commands=(("copy", "cp {input} {output}"),))
        result = Evaluator(settings, scorers)(folder / "one.wav")
        assert [row.key.metric for row in result.rows] == ["coding", "spectral"]
        assert type(error).__name__ in result.failures[0].reason

    def test_an_unreadable_text_is_its_files_alone(self, folder):
        (folder / "one.txt").write_bytes("für".encode("latin-1"))
        evaluator = self.evaluator(folder, ("copy", "cp {input} {output}"))
        assert "no text in UTF-8" in evaluator(folder / "one.wav").failures[0].reason
        assert not evaluator(folder / "a/three.wav").failures

    def test_a_changed_text_counts_for_words_alone(self, folder):
        scorers = {"spectral": lambda pair: {"mel": 0.0}, "words": lambda pair: {"words": len(pair.text)}}
        settings = EvaluationSettings(folder, tuple(scorers), commands=(("copy", "cp {input} {output}"),))
        evaluator = Evaluator(settings, scorers)
        (folder / "one.txt").write_text("hello")
        known = {row.key: row for row in evaluator(folder / "one.wav").rows}
        assert not evaluator(folder / "one.wav", known).rows
        (folder / "one.txt").write_text("hello you")
        assert {row.key.metric for row in evaluator(folder / "one.wav", known).rows} == {"words"}

    def test_the_original_is_scored_where_no_other_signal_is_needed(self, folder):
        def score(pair):
            return {"distillmos": 4.0}

        (folder / "one.json").write_text('{"text": "hello"}')
        scorers = {"stoi": score, "distillmos": score, "words": score}
        settings = EvaluationSettings(folder, tuple(scorers), commands=(("copy", "cp {input} {output}"),))
        evaluator = Evaluator(settings, scorers)
        of_file = {key.metric for key in evaluator(folder / "one.wav").keys["original"]}
        assert of_file == {"coding", "distillmos", "words"}
        without_text = {key.metric for key in evaluator(folder / "a/three.wav").keys["original"]}
        assert without_text == {"coding", "distillmos"}


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"metrics": ("beauty",)}, "no metric is called beauty"),
            ({"peers": ("lyra",)}, "no peer is called lyra"),
            ({"commands": (("x", "cp {input} {output}"), ("x", "cat {input} {output}"))}, "2 systems are called 'x'"),
            ({"commands": (("original", "cp {input} {output}"),)}, "another name"),
            ({"commands": (("x", "cp a b"),)}, "needs {input} and {output}"),
        ],
    )
    def test_nonsense_is_refused(self, tmp_path, settings, said):
        with pytest.raises(ValueError, match=said):
            EvaluationSettings(tmp_path, **{"metrics": (), **settings})

    def test_nothing_to_evaluate_is_refused(self, tmp_path):
        with pytest.raises(ValueError, match="nothing to evaluate"):
            Evaluator(EvaluationSettings(tmp_path, ()))


class TestStore:
    def row(self, metric="stoi", **values):
        return ScoreRow(Key("s", "a", "c", metric, "1"), "x", values, None)

    def test_rows_survive_the_disk(self, tmp_path):
        rows = [self.row(stoi=0.5), self.row("coding", codes=[[1, 2]], n_bytes=None)]
        ScoreStore(tmp_path / "rows").add(rows)
        assert list(ScoreStore(tmp_path / "rows").rows.values()) == rows
        assert ScoreStore(tmp_path / "none").rows == {}
        assert Failure("a", "x", "why").reason == "why"

    def test_the_last_row_of_a_key_counts(self, tmp_path):
        store = ScoreStore(tmp_path / "rows")
        for value in (0.5, 0.6):
            store.add([self.row(stoi=value)])
        assert [row.values for row in ScoreStore(tmp_path / "rows").rows.values()] == [{"stoi": 0.6}]

    def test_lines_of_another_kind_are_left_alone(self, tmp_path):
        old = '{"file": "a", "system": "x", "seconds": 1.0, "scores": {"stoi": 0.5}}'
        (tmp_path / "rows").write_text(f'{old}\n[]\n\n{{"system": ')
        store = ScoreStore(tmp_path / "rows")
        assert not store.rows
        store.add([self.row(stoi=0.5)])
        assert len(ScoreStore(tmp_path / "rows").rows) == 1
        assert (tmp_path / "rows").read_text().startswith(old)
