"""Shards of codes in every format: the same items, the same bytes each time, checked item by item."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from esdcodec.dataset.token_shards import (
    SUFFIXES,
    histogram_file,
    packed_codes,
    read_histograms,
    read_shard,
    shard_files,
)
from esdcodec.dataset.tokens import Tokens
from esdcodec.infer.tokenise import TokeniseSettings, tokenise, verify
from esdcodec.infer.tokenise.writers import WRITERS
from tests.conftest import speech
from tests.corpora import add, audio, sample


@pytest.fixture(scope="module")
def shards(model, tmp_path_factory) -> dict[str, Path]:
    """The folder of each format: one shard of three utterances, whose metadata has other fields and types each."""
    folder = tmp_path_factory.mktemp("formats")
    members = {}
    for i, extra in enumerate(
        [{"text": "one", "mos": 3}, {"speaker": "b", "mos": [1, 2]}, {"text": 7, "language": "en"}]
    ):
        members |= sample(f"u{i}", audio(speech(0.2 + i / 5, seed=i)[0, 0].numpy()), **extra)
    tar = add(folder / "in.tar", members)
    for format in SUFFIXES:
        if format == "parquet":
            pytest.importorskip("pyarrow")
        tokenise([tar], folder / format, TokeniseSettings(model, 2, "cpu", format=format))
    return {format: folder / format for format in SUFFIXES}


def items(folder: Path) -> list:
    return list(read_shard(folder / "in.manifest.json"))


@pytest.mark.parametrize("format", ["parquet", "packed"])
def test_every_format_holds_what_the_tar_holds(shards, format):
    for ours, tar in zip(items(shards[format]), items(shards["tar"]), strict=True):
        assert (ours.key, ours.metadata) == (tar.key, tar.metadata)
        assert ours.codes.dtype == np.uint16
        assert np.array_equal(ours.codes, tar.codes)


@pytest.mark.parametrize("format", SUFFIXES)
def test_what_was_written_is_whole_and_what_was_changed_is_found(shards, format):
    folder = shards[format]
    assert [problems for _, problems in verify(folder)] == [[]]
    manifest = folder / "in.manifest.json"
    for file in (*shard_files(manifest, format).values(), histogram_file(manifest)):
        content = bytearray(file.read_bytes())
        whole = bytes(content)
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        assert any("not the one" in problem for _, problems in verify(folder) for problem in problems)
        file.write_bytes(whole)


@pytest.fixture
def copy(shards, tmp_path) -> Path:
    shutil.copytree(shards["packed"], tmp_path / "packed")
    return tmp_path / "packed"


def test_counts_of_other_codes_are_found(copy):
    manifest = copy / "in.manifest.json"
    told = json.loads(manifest.read_text())
    counts = np.load(histogram_file(manifest))
    assert sum(map(np.sum, read_histograms(manifest))) == 2 * told["frames"]
    counts[-1] += 1
    np.save(histogram_file(manifest), counts)
    told["sha256"][".histogram.npy"] = hashlib.sha256(histogram_file(manifest).read_bytes()).hexdigest()
    manifest.write_text(json.dumps(told))
    assert ["counted" in problem for _, problems in verify(copy) for problem in problems] == [True]


def test_a_manifest_is_small_however_many_codes_there_are(shards):
    assert len((shards["tar"] / "in.manifest.json").read_bytes()) < 1000


@pytest.mark.parametrize("format", SUFFIXES)
def test_files_of_an_older_format_beside_it_are_told(shards, format, tmp_path):
    for file in shards[format].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "in.manifest.json").unlink()
    found = [path.name for path, problems in verify(tmp_path) if problems]
    assert sorted(found) == sorted(f"in{suffix}" for suffix in SUFFIXES[format])


FOREIGN = {
    "list.jsonl": b'{"path": "a.wav"}',
    "keys.jsonl": b'{"key": "a", "metadata": {"text": "x"}}',
    "model.bin": b"\0" * 100,
    "x.index.npy": b"",
    "vite.manifest.json": b'{"files": []}',
    "list.manifest.json": b"[]",
    "table.parquet": b"PAR1",
    "half.tar": b"\1" * 700,
}


def test_foreign_files_are_not_looked_at(shards, tmp_path):
    for folder in (shards["packed"], shards["tar"]):
        shutil.copytree(folder, tmp_path / folder.name)
    for name, content in FOREIGN.items():
        (tmp_path / "tar" / name).write_bytes(content)
    add(tmp_path / "tar/speech.tar", sample("u", b"audio"))
    add(tmp_path / "tar/others.tar", {"u.codes.npy": (tmp_path / "packed/in.index.npy").read_bytes(), "u.json": b"{}"})
    (tmp_path / "tar/folder.bin").mkdir()
    assert [(path.name, problems) for path, problems in verify(tmp_path)] == [("in.manifest.json", [])] * 2
    assert len(Tokens(tmp_path / "tar")) == 3


def test_a_damaged_manifest_is_told(copy):
    (copy / "in.manifest.json").write_text('{"format": "esdcodec-tok')
    assert next(path.name for path, problems in verify(copy) if problems) == "in.manifest.json"


@pytest.mark.parametrize("format", SUFFIXES)
def test_a_shard_without_utterances_is_one(format, model, tmp_path):
    if format == "parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/bad.wav").write_bytes(b"no audio")
    tokenise([tmp_path / "in"], tmp_path / "out", TokeniseSettings(model, device="cpu", format=format))
    assert [problems for _, problems in verify(tmp_path / "out")] == [[]]


def test_packed_codes_are_frames_without_padding(shards):
    packed = packed_codes(shards["packed"] / "in.bin", 2)
    assert np.array_equal(packed, np.concatenate([codes.T for _, codes, _ in items(shards["tar"])]))
    assert isinstance(packed, np.memmap)


def test_a_parquet_file_is_written_and_read_in_pieces(shards, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("esdcodec.infer.tokenise.writers.ROW_GROUP", 1)
    with open(tmp_path / "x.parquet", "w+b") as stream:
        writer = WRITERS["parquet"]([stream], 2)
        for item in items(shards["tar"]):
            writer.write(*item)
        writer.close()
    assert parquet.ParquetFile(tmp_path / "x.parquet").num_row_groups == 3


def test_datasets_reads_parquet(shards, tmp_path):
    datasets = pytest.importorskip("datasets", reason="`datasets` is not installed")
    file = str(shards["parquet"] / "in.parquet")
    rows = datasets.load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path))
    for row, (key, codes, metadata) in zip(rows, items(shards["tar"]), strict=True):
        assert (row["key"], json.loads(row["metadata"]), row["frames"]) == (key, metadata, codes.shape[1])
        assert np.array_equal([row["codes_0"], row["codes_1"]], codes)
    assert (rows[0]["text"], rows[1]["speaker"], rows[2]["language"], rows[2]["text"]) == ("one", "b", "en", None)


def test_without_pyarrow_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"esdcodec\[parquet\]"):
        TokeniseSettings(format="parquet")
