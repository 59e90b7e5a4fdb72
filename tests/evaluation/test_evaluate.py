"""Laws of the evaluation: scores are the packages' own, systems are all treated alike, runs can be gone on with."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from conftest import make_tiny_codec, speech

from esdcodec.audio import resample
from esdcodec.evaluation import metrics
from esdcodec.evaluation.evaluate import Estimate, Evaluator, Failure, Plan, Row, append, rows_in, summarise
from esdcodec.evaluation.metrics import METRICS, MissingPackage, Pair, load_metric
from esdcodec.evaluation.report import table, usage
from esdcodec.evaluation.systems import PEERS, SystemFailed, command_system, folder_system, peer_system
from esdcodec.infer.cli import main


@pytest.fixture(scope="module")
def pair():
    reference = speech(2.0)[0, 0].numpy()
    noise = np.random.default_rng(0).standard_normal(len(reference)).astype(np.float32)
    return Pair(reference, reference + 0.02 * noise, 24000)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "speech"
    (folder / "a").mkdir(parents=True)
    for i, name in enumerate(("one.wav", "a/two.flac", "a/three.wav")):
        soundfile.write(folder / name, speech(1.0 + 0.2 * i, seed=i)[0, 0].numpy(), 24000)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    make_tiny_codec().save_pretrained(path)
    return str(path)


class TestMetrics:
    def test_stoi(self, pair):
        pystoi = pytest.importorskip("pystoi")
        scores = load_metric("stoi")(pair)
        assert scores["stoi"] == pytest.approx(pystoi.stoi(pair.reference, pair.estimate, 24000))
        assert scores["estoi"] == pytest.approx(pystoi.stoi(pair.reference, pair.estimate, 24000, extended=True))

    def test_pesq(self, pair):
        pesq = pytest.importorskip("pesq")
        scores = load_metric("pesq")(pair)
        for column, rate, mode in (("pesq_wb", 16000, "wb"), ("pesq_nb", 8000, "nb")):
            signals = [resample(w, 24000, rate) for w in (pair.reference, pair.estimate)]
            assert scores[column] == pytest.approx(pesq.pesq(rate, *signals, mode))

    def test_pesq_of_silence_is_no_number(self):
        pytest.importorskip("pesq")
        silence = np.zeros(24000, np.float32)
        assert math.isnan(load_metric("pesq")(Pair(silence, silence, 24000))["pesq_wb"])

    def test_distillmos(self, pair):
        torch = pytest.importorskip("torch")
        distillmos = pytest.importorskip("distillmos")
        estimate = torch.from_numpy(resample(pair.estimate, 24000, 16000))[None]
        with torch.no_grad():
            expected = distillmos.ConvTransformerSQAModel().eval()(estimate).item()
        assert load_metric("distillmos")(pair)["distillmos"] == pytest.approx(expected, abs=1e-4)

    def test_words_are_counted_after_plain_writing(self):
        assert metrics._plain("Hello, World! It's  5.") == "hello world it's 5"

    @pytest.mark.parametrize("name", METRICS)
    def test_columns_are_those_it_says_and_a_copy_is_perfect(self, pair, name):
        try:
            scorer = load_metric(name)
        except MissingPackage as error:
            pytest.skip(str(error))
        same = scorer(Pair(pair.reference, pair.reference, 24000))
        assert tuple(same) == METRICS[name].columns
        best = {
            "mel": 0,
            "stft": 0,
            "stoi": 1,
            "estoi": 1,
            "speaker": 1,
            "word_errors": 0,
            "f0_cents": 0,
            "voicing_f1": 1,
        }
        for column, value in best.items():
            assert column not in same or same[column] == pytest.approx(value, abs=1e-3)
        noisy = scorer(pair)
        for column in ("stoi", "estoi", "pesq_wb", "pesq_nb", "visqol", "si_sdr", "speaker"):
            assert column not in same or noisy[column] < same[column]

    def test_a_missing_package_is_named(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pesq", None)
        with pytest.raises(MissingPackage, match=r"pesq needs pesq .*pip install"):
            load_metric("pesq")


class TestSystems:
    def test_the_model_at_several_numbers_of_codebooks(self, folder, model):
        rows = Evaluator(Plan(folder, ("spectral",), model=model, n_quantizers=(1, 3)))(folder / "one.wav")
        assert [row.system for row in rows] == ["esdcodec n=1", "esdcodec n=3"]
        codec = make_tiny_codec()
        n_frames = -(-24000 // codec.hop_length)
        for n, row in zip((1, 3), rows):
            coded = folder / f"{n}.esd"
            assert (
                main(["encode", str(folder / "one.wav"), "-o", str(coded), "--model", model, "--n-quantizers", str(n)])
                == 0
            )
            assert row.n_bytes == coded.stat().st_size
            assert row.bitrate == codec.bitrate(n)
            assert row.megabytes is None or 0 <= row.megabytes < 500
        assert np.array(rows[1].codes).shape == (3, n_frames)
        assert all(row.encode_seconds > 0 and row.decode_seconds > 0 for row in rows)

    def test_files_of_another_codec(self, folder, tmp_path):
        other = tmp_path / "other"
        (other / "a").mkdir(parents=True)
        shutil.copy(folder / "one.wav", other / "one.wav")
        soundfile.write(other / "a/two.ogg", np.zeros(100), 8000)
        system = folder_system(folder, other)
        original, _ = soundfile.read(folder / "one.wav", dtype="float32")
        np.testing.assert_allclose(system(folder / "one.wav", original, 24000).waveform, original, atol=1e-4)
        assert len(system(folder / "a/two.flac", original, 24000).waveform) == len(original)
        with pytest.raises(SystemFailed, match=r"there is no .*three\.wav"):
            system(folder / "a/three.wav", original, 24000)

    def test_a_program(self, folder):
        original, _ = soundfile.read(folder / "one.wav", dtype="float32")
        system = command_system("head -c 1000 {input} > {coded} && cp {input} {output}", 16000)
        decoded = system(folder / "one.wav", original, 24000)
        assert decoded.n_bytes == 1000
        assert len(decoded.waveform) == len(original)
        assert metrics.si_sdr(decoded.waveform, original) > 10
        with pytest.raises(SystemFailed, match=r"failed .3.: out of order"):
            command_system("echo out of order >&2; exit 3", 24000)(folder / "one.wav", original, 24000)

    @pytest.mark.parametrize("name", ["opus-6k", "codec2-1300"])
    def test_ready_made_peers(self, folder, name):
        try:
            system = peer_system(name)
        except SystemFailed as error:
            pytest.skip(str(error))
        original, _ = soundfile.read(folder / "one.wav", dtype="float32")
        decoded = system(folder / "one.wav", original, 24000)
        assert len(decoded.waveform) == len(original)
        assert 100 < decoded.n_bytes < 5000

    def test_a_peer_that_is_not_installed_says_what_to_install(self, monkeypatch):
        monkeypatch.setattr(shutil, "which", lambda program: None)
        for name in PEERS:
            with pytest.raises(SystemFailed, match=r"needs the program .*Debian package"):
                peer_system(name)


class TestSummary:
    def rows(self):
        return [
            Row(f"{i}", "x", 2.0, {"stoi": value, "word_errors": errors, "words": 10}, 100)
            for i, (value, errors) in enumerate([(0.5, 0), (0.7, 2), (0.9, 1), (math.nan, 5)])
        ]

    def test_means_ratios_and_rates(self):
        summary = summarise(self.rows())["x"]
        assert summary["stoi"].value == pytest.approx(0.7)
        assert 0.5 <= summary["stoi"].low < 0.7 < summary["stoi"].high <= 0.9
        assert summary["wer"].value == pytest.approx(8 / 40)
        assert summary["kbps"] == pytest.approx(400 * 8 / 8 / 1000)
        assert "words" not in summary

    def test_an_interval_covers_the_truth_about_as_often_as_it_says(self):
        rng = np.random.default_rng(0)
        covered = 0
        for _ in range(100):
            rows = [Row(str(i), "x", 1.0, {"stoi": value}) for i, value in enumerate(rng.normal(0.5, 0.1, 40))]
            estimate = summarise(rows)["x"]["stoi"]
            covered += estimate.low <= 0.5 <= estimate.high
        assert 86 <= covered <= 100

    def test_table(self):
        text = table({"x": {"stoi": Estimate(0.71234, 0.7, 0.73)}, "y": {"nominal": 0.85}}, intervals=True)
        assert text.splitlines() == [
            "| system | kbps | STOI ↑        |",
            "| ------ | ---- | ------------- |",
            "| x      |      | 0.712 ± 0.015 |",
            "| y      | 0.85 |               |",
        ]

    def test_codebook_usage(self):
        rows = [Row("a", "x", 1.0, {}, codes=[[0, 1, 1, 3], [5, 5, 5, 5]])]
        first, second = usage(rows, (4, 8, 8))
        assert first == {"codebook": 0, "used": 0.75, "perplexity": pytest.approx(2**1.5), "entropy_bits": 1.5}
        assert second["used"] == 0.125


class TestCommandLine:
    def run(self, *args) -> int:
        return main(["evaluate", *map(str, args)])

    def test_table_scores_and_files(self, folder, model, tmp_path, capsys):
        out = tmp_path / "out"
        command = (
            folder,
            "--model",
            model,
            "--n-quantizers",
            "1",
            "3",
            "--output",
            out,
            "--metrics",
            "spectral",
            "stoi",
        )
        assert self.run(*command, "--command", "copy=cp {input} {output}", "--keep") == 0
        shown = capsys.readouterr().out
        assert "| esdcodec n=3 |" in shown
        summary = json.loads((out / "summary.json").read_text())
        assert set(summary["systems"]) == {"esdcodec n=1", "esdcodec n=3", "copy"}
        assert summary["systems"]["copy"]["stoi"]["value"] == pytest.approx(1, abs=1e-3)
        assert len(summary["codebooks"]) == 3
        with open(out / "scores.csv", newline="") as stream:
            assert len(list(csv.DictReader(stream))) == 9
        assert len(list((out / "decoded/copy").rglob("*.wav"))) == 3

    def test_a_report_to_look_at(self, folder, tmp_path):
        out = tmp_path / "out"
        (folder / "a&b.wav").write_bytes((folder / "one.wav").read_bytes())
        args = ("--model", "none", "--metrics", "spectral", "--output", out, "--html")
        systems = ("--command", "copy=cp {input} {output}", "--command", "<loud>=cp {input} {output}")
        assert self.run(folder, *args, *systems) == 0
        text = (out / "report.html").read_text()
        assert text.count("<audio") == 4 * 3  # each file: the original and both systems
        assert text.count("<img") == 4 * 3
        assert "a&amp;b.wav" in text
        assert "&lt;loud&gt;" in text
        assert "http" not in text  # nothing is fetched
        assert "SI-SDR" in text

    def test_it_goes_on_where_it_was_stopped(self, folder, model, tmp_path, monkeypatch):
        out = tmp_path / "out"
        command = (folder, "--model", model, "--n-quantizers", "1", "--output", out, "--metrics", "spectral")
        assert self.run(*command) == 0
        lines = (out / "scores.jsonl").read_text().splitlines(keepends=True)
        (out / "scores.jsonl").write_text(lines[0] + lines[1][:50])
        scored = []
        monkeypatch.setattr(metrics, "si_sdr", lambda *a: scored.append(1) or 0.0)
        assert self.run(*command) == 0
        assert len(scored) == 2
        assert len(rows_in(out / "scores.jsonl")) == 3

    @pytest.mark.slow
    def test_several_processes_say_the_same(self, folder, model, tmp_path):
        found = []
        for jobs in (1, 2):
            out = tmp_path / str(jobs)
            assert self.run(folder, "--model", model, "--output", out, "--metrics", "spectral", "--jobs", jobs,
                            "--n-quantizers", 2) == 0  # fmt: skip
            found.append({(row.file, row.system): row.scores for row in rows_in(out / "scores.jsonl")})
        assert found[0].keys() == found[1].keys()
        for key, scores in found[0].items():
            assert found[1][key] == pytest.approx(scores, rel=1e-3)

    def test_what_fails_is_named_and_the_rest_goes_on(self, folder, tmp_path, capsys):
        (folder / "bad.wav").write_bytes(b"no audio")
        code = self.run(folder, "--model", "none", "--command", "copy=cp {input} {output}", "--metrics", "spectral",
                        "--output", tmp_path / "out")  # fmt: skip
        assert code == 1
        assert "failed     copy on bad.wav" in capsys.readouterr().err
        assert len(rows_in(tmp_path / "out/scores.jsonl")) == 3

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["--metrics", "beauty"], "no metric is called beauty"),
            (["--peers", "lyra"], "no peer is called lyra"),
            (["--decoded", "folder"], "expected NAME="),
            (["--model", "nowhere"], "is no model"),
        ],
    )
    def test_wrong_commands(self, folder, tmp_path, capsys, args, said):
        assert (
            self.run(folder, "--output", tmp_path / "out", *args, *[] if "--metrics" in args else ["--metrics", "stoi"])
            == 2
        )
        assert said in capsys.readouterr().err

    def test_a_stopped_evaluation_ends(self, folder, tmp_path):
        for i in range(20):
            (folder / f"{i}.wav").write_bytes((folder / "one.wav").read_bytes())
        rows = tmp_path / "out/scores.jsonl"
        args = [folder, "--metrics", "spectral", "--command", "slow=sleep 2; cp {input} {output}", "--jobs", "2"]
        command = [sys.executable, "-m", "esdcodec.infer.cli", "evaluate", *map(str, args), "--output", rows.parent]
        process = subprocess.Popen(command, start_new_session=True)
        while not rows_in(rows):
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
        assert process.wait(20) == 130
        assert len(rows_in(rows)) < 23

    def test_an_empty_folder(self, tmp_path, capsys):
        assert self.run(tmp_path) == 2
        assert "no audio files" in capsys.readouterr().err


def test_rows_survive_the_disk(tmp_path):
    row = Row("a", "x", 1.0, {"stoi": 0.5}, 10, 0.1, 0.2, [[1, 2]])
    append(row, tmp_path / "rows")
    append(row, tmp_path / "rows")
    assert rows_in(tmp_path / "rows") == [row, row]
    assert rows_in(tmp_path / "none") == []
    assert Failure("a", "x", "why").reason == "why"
