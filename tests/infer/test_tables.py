"""Tables of recordings: what a row says, and what is wrong with one."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from esdcodec.cli.main import main
from esdcodec.codec import load
from esdcodec.dataset.token_shards import TokenItem, read_shard
from esdcodec.infer.tokenise import TokeniseSettings, tokenise
from esdcodec.infer.tokenise.sources import find_units
from esdcodec.infer.tokenise.tables import items_of_table
from tests.conftest import speech, write_speech

BAD_ROWS = {
    "row is no JSON": '{"path": "a.wav"',
    "row is no JSON object": '["a.wav"]',
    "row has no path": '{"text": "x"}',
    "path is no text": '{"path": 5}',
    "start is no number": '{"path": "a.wav", "start": "abc"}',
    "end is no number": '{"path": "a.wav", "end": true}',
    "start is negative or not finite": '{"path": "a.wav", "start": -1}',
    "end is negative or not finite": '{"path": "a.wav", "end": NaN}',
    "end is not after start": '{"path": "a.wav", "start": 0.5, "end": 0.5}',
}


def settings_of(model: str, **more: object) -> TokeniseSettings:
    return TokeniseSettings(**{"model": model, "device": "cpu", "gain": False, **more})


def items(shard: Path) -> dict[str, TokenItem]:
    return {item.key: item for item in read_shard(shard)}


def problems(table: Path) -> dict[str, str]:
    return {item.key: item.problem for item in items_of_table(table) if item.problem}


def test_a_table_names_parts_of_recordings(model, tmp_path):
    audio = speech(1.0)[0, 0].numpy()
    soundfile.write(tmp_path / "talk.wav", audio, 24000, subtype="FLOAT")
    rows = [{"path": "talk.wav", "start": 0.2, "end": 0.6, "speaker": "x"}, {"path": "talk.wav", "id": "all"}]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "list.csv").write_text("path,start,end,speaker\ntalk.wav,0.2,0.6,x\n")
    for name in ("list.jsonl", "list.csv"):
        tokenise([tmp_path / name], tmp_path / name[5:], settings_of(model))
    found = items(tmp_path / "jsonl/list-000000.manifest.json")
    assert list(found) == ["talk-0_20", "all"]
    part = torch.from_numpy(audio[4800:14400])
    assert np.mean(found["talk-0_20"].codes == load(model, device="cpu").encode(part)[0].numpy()) > 0.99
    same = items(tmp_path / "csv/list-000000.manifest.json")["talk-0_20"]
    assert same.codes.tolist() == found["talk-0_20"].codes.tolist()
    assert same.metadata == found["talk-0_20"].metadata
    assert same.metadata.items() >= {"path": "talk.wav", "start": 0.2, "end": 0.6, "speaker": "x"}.items()


def test_bad_rows_are_skipped_counted_and_named_and_the_rest_goes_on(model, tmp_path, capsys):
    write_speech(tmp_path / "a.wav", 0.2)
    rows = ['{"path": "a.wav", "id": "first"}', "", *BAD_ROWS.values(), '{"path": "gone.wav"}', '{"path": "a.wav"}']
    (tmp_path / "list.jsonl").write_text("\n".join(rows))
    command = ["tokenise", str(tmp_path / "list.jsonl"), "-o", str(tmp_path / "out"), "--model", model]
    assert main([*command, "--device", "cpu"]) == 1
    said = capsys.readouterr()
    assert "2 utterances, " in said.out
    manifest = tmp_path / "out/list-000000.manifest.json"
    assert list(items(manifest)) == ["first", "a"]
    skipped = dict(json.loads(manifest.read_text())["skipped"])
    expected = {f"list.jsonl:{line}": reason for line, reason in enumerate(BAD_ROWS, 3)}
    assert skipped == {**expected, "gone": f"file is missing: {tmp_path / 'gone.wav'}"}
    for kind in (*BAD_ROWS, "file is missing"):
        assert f"1 utterances: {kind}" in said.err
    assert "list.jsonl:7" in said.err


def test_odd_paths_and_names_are_one_rows(tmp_path):
    rows = [{"path": "."}, {"path": "/"}, {"path": "a\0.wav"}, {"path": "a.wav", "id": 0}, {"path": "a.wav", "id": [1]}]
    (tmp_path / "LIST.JSONL").write_text("\n".join(map(json.dumps, rows)))
    assert [item.key for item in items_of_table(tmp_path / "LIST.JSONL")] == ["_", "_-2", "a_", "0", "_1_"]


def test_an_end_that_was_rounded_is_that_of_the_recording(model, tmp_path):
    write_speech(tmp_path / "a.wav", 0.3)
    (tmp_path / "list.csv").write_text("path,end\na.wav,0.305\na.wav,0.32\n")
    summary = tokenise([tmp_path / "list.csv"], tmp_path / "out", settings_of(model))
    assert (summary.utterances, summary.skipped) == (1, {"audio cannot be read": 1})


def test_numbers_that_json_does_not_have_become_null(model, tmp_path):
    write_speech(tmp_path / "a.wav", 0.2)
    (tmp_path / "list.jsonl").write_text('{"path": "a.wav", "score": Infinity, "words": [{"begin": NaN, "end": 1.5}]}')
    tokenise([tmp_path / "list.jsonl"], tmp_path / "out", settings_of(model))
    (item,) = items(tmp_path / "out/list-000000.manifest.json").values()
    assert (item.metadata["score"], item.metadata["words"]) == (None, [{"begin": None, "end": 1.5}])


def test_bytes_that_are_no_text_are_one_row(tmp_path):
    (tmp_path / "list.jsonl").write_bytes(b'{"path": "a.wav"}\n{"path": "\xff.wav"}\n')
    assert problems(tmp_path / "list.jsonl") == {"list.jsonl:2": "row is no JSON"}
    (tmp_path / "list.csv").write_bytes(b"path,text\na.wav,\xff\nb.wav,x\n")
    assert problems(tmp_path / "list.csv") == {"list.csv:2": "row is not UTF-8"}


def test_rows_of_a_csv_that_are_cut_are_named(tmp_path):
    (tmp_path / "x.csv").write_text('path,start,text\na.wav,0,one\nb.wav,1\nc.wav,0,"open\nd.wav,0,two\n')
    found = problems(tmp_path / "x.csv")
    assert found["x.csv:3"] == "row has not as many fields as the header: 2 of 3"
    assert found["x.csv:5"].startswith("row is damaged: ")
    assert len(found) == 2


class TestParquet:
    @pytest.fixture(autouse=True)
    def parquet(self):
        pytest.importorskip("pyarrow.parquet")

    def write(self, path: Path, rows: list[dict]) -> Path:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path

    def test_rows_say_what_is_wrong_with_them(self, tmp_path):
        rows = [
            {"path": "a.wav", "start": 0.0, "end": 1.0},
            {"path": None, "start": 0.0, "end": 1.0},
            {"path": "b.wav", "start": float("nan"), "end": 1.0},
            {"path": "c.wav", "start": 2.0, "end": 1.0},
        ]
        assert problems(self.write(tmp_path / "t.parquet", rows)) == {
            "t.parquet:2": "row has no path",
            "t.parquet:3": "start is negative or not finite",
            "t.parquet:4": "end is not after start",
        }

    def test_dates_become_text_and_bytes_are_refused(self, model, tmp_path):
        import datetime

        write_speech(tmp_path / "a.wav", 0.2)
        more = {"times": [datetime.time(1, 2)], "age": datetime.timedelta(hours=1)}
        rows = [
            {"path": "a.wav", "id": "a", "day": datetime.date(2026, 1, 2), "content": None, "more": more},
            {"path": "a.wav", "id": "b", "day": None, "content": b"x", "more": more},
        ]
        table = self.write(tmp_path / "t.parquet", rows)
        summary = tokenise([table], tmp_path / "out", settings_of(model))
        assert summary.skipped == {"metadata cannot be written as JSON": 1}
        metadata = items(tmp_path / "out/t-000000.manifest.json")["a"].metadata
        assert metadata["day"] == "2026-01-02"
        assert metadata["more"] == {"times": ["01:02:00"], "age": "1:00:00"}

    def test_what_is_no_parquet_is_named(self, tmp_path):
        (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
        with pytest.raises(ValueError, match=r"t\.parquet.*cannot be read as Parquet"):
            list(items_of_table(tmp_path / "t.parquet"))


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", "audio,text\nx,y\n"), ("a.jsonl", '{"audio": "x", "text": "y"}\n')]
)
def test_a_table_without_paths_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=rf"{name}.*`path`.*audio, text"):
        find_units([tmp_path / name], 10)


def test_a_table_that_was_mended_is_tokenised_again(model, tmp_path):
    write_speech(tmp_path / "a.wav", 0.2)
    table = tmp_path / "list.jsonl"
    for start, units in (("abc", 1), ("abc", 0), (0.1, 1)):
        table.write_text(json.dumps({"path": "a.wav", "start": start}) + '\n{"path": "a.wav"}')
        summary = tokenise([table], tmp_path / "out", settings_of(model))
        assert (summary.units, summary.complete) == (units, start != "abc")


def test_metadata_beside_a_file_that_is_damaged_costs_only_that_file(model, tmp_path):
    for name in ("good", "nojson", "notext", "half"):
        write_speech(tmp_path / f"in/{name}.wav", 0.2)
    (tmp_path / "in/nojson.json").write_text("[1]")
    (tmp_path / "in/notext.txt").write_bytes(b"\xff")
    (tmp_path / "in/half.json").write_text('{"text": "\\ud800"}')
    summary = tokenise([tmp_path / "in"], tmp_path / "out", settings_of(model))
    assert summary.utterances == 1
    assert summary.skipped == {
        "json file is damaged": 1, "txt file is damaged": 1, "metadata cannot be written as JSON": 1,
    }  # fmt: skip
