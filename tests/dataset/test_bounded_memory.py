"""What is not used of shards and tables takes no memory, however large it is."""

import io
import json
import tarfile
import tracemalloc
from contextlib import contextmanager

import pytest

from esdcodec.dataset.metadata import LARGEST, Metadata, MetadataError
from esdcodec.dataset.scan import scan_shard
from esdcodec.dataset.tar_stream import ShardBroken, utterances
from esdcodec.infer.tokenise.sources import find_units, utterances_of
from tests.corpora import audio

LARGE = 48 << 20  # bytes
SMALL = 8 << 20


@contextmanager
def little_memory():
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < SMALL


class Zeros(io.RawIOBase):
    """So many zeros, as a file."""

    def __init__(self, n_bytes):
        self.left = n_bytes

    def read(self, n_bytes=-1):
        taken = min(n_bytes, self.left)
        self.left -= taken
        return bytes(taken)


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    """Two utterances; the first has a json and a text of many bytes."""
    path = tmp_path_factory.mktemp("large") / "a.tar"
    members = {
        "x.wav": audio(),
        "x.json": LARGE,
        "x.txt": LARGE,
        "y.wav": audio(),
        "y.json": json.dumps({"duration": 1}).encode(),
    }
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = content if isinstance(content, int) else len(content)
            tar.addfile(member, Zeros(content) if isinstance(content, int) else io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def long_header(tmp_path_factory):
    """A tar whose second member has a name of many bytes."""
    path = tmp_path_factory.mktemp("header") / "a.tar"
    with tarfile.open(path, "w") as tar:
        content = audio()
        member = tarfile.TarInfo("x.wav")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
        member = tarfile.TarInfo("long")
        member.type, member.size = tarfile.GNUTYPE_LONGNAME, LARGE
        tar.addfile(member, Zeros(LARGE))
        tar.addfile(tarfile.TarInfo("y.wav"))
    return path


@pytest.mark.parametrize("source", ["{}", "pipe:cat {}"])
def test_members_that_nobody_reads_and_large_metadata_are_not_kept(shard, source):
    with little_memory():
        first, second = utterances(source.format(shard))
    assert first["txt"] == b""
    with pytest.raises(MetadataError, match="larger than 1 MiB"):
        Metadata.parse(first["json"])
    assert Metadata.parse(second["json"]).duration == 1


def test_neither_are_they_where_a_shard_is_tokenised(shard):
    (unit,) = find_units([shard], 10).units
    with little_memory():
        problems = {item.key: item.problem for item in utterances_of(unit)}
    assert problems == {"x": "json member is larger than 1 MiB", "y": ""}


def test_a_header_of_a_tar_has_a_bound(long_header):
    with little_memory(), pytest.raises(ShardBroken, match="a header is larger than 1 MiB"):
        list(utterances(str(long_header)))
    with little_memory():
        entries = scan_shard(long_header)
    assert any("a header is larger than 1 MiB" in reason for reason in entries.broken_reasons)


@pytest.mark.parametrize(
    ("suffix", "row", "reason"),
    [(".jsonl", '{"path": "a.wav"}\n', "row is longer than 1 MiB"), (".csv", "a.wav\n", "row is damaged")],
)
def test_a_row_of_a_table_has_a_bound(tmp_path, suffix, row, reason):
    table = tmp_path / f"list{suffix}"
    with open(table, "w") as stream:
        stream.write("path\n" * (suffix == ".csv") + row)
        stream.seek(LARGE)
        stream.write("\n" + row)
    with little_memory():
        (unit,) = find_units([table], 10).units
    first, long, last = unit.utterances
    assert [first.audio, last.audio] == 2 * [tmp_path / "a.wav"]
    assert long.problem.startswith(reason)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.json", b" " * (LARGEST + 1), "json file is damaged: larger than 1 MiB"),
        ("a.json", b"[1]", "json file is damaged: json member is damaged"),
        ("a.txt", b"x" * (LARGEST + 1), "txt file is damaged: larger than 1 MiB"),
        ("a.txt", b"\xff", "txt file is damaged: "),
    ],
)
def test_what_is_wrong_beside_a_file_is_that_files_alone(tmp_path, name, content, reason):
    for stem in "ab":
        (tmp_path / f"{stem}.wav").write_bytes(audio())
    (tmp_path / name).write_bytes(content)
    (unit,) = find_units([tmp_path], 10).units
    problems = {item.key: item.problem for item in unit.utterances}
    assert problems["a"].startswith(reason)
    assert problems["b"] == ""
