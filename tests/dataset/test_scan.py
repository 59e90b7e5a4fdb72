"""What is inside a shard, and what of it can be believed."""

import json
import tarfile

import pytest

from esdcodec.dataset.batch import SkippedUtterance
from esdcodec.dataset.make_shards import write_shards
from esdcodec.dataset.metadata import LARGEST, Metadata, MetadataError
from esdcodec.dataset.scan import scan_shard
from esdcodec.dataset.skip_counts import SkipCounts
from tests.corpora import add, audio, broken_members, sample, utterance


@pytest.fixture
def shard(tmp_path):
    return write_shards([utterance(i) for i in range(5)], tmp_path)[0]


def broken(entries) -> list[tuple[str, str]]:
    return list(zip(entries.broken_keys, entries.broken_reasons))


def test_offsets_lead_to_the_audio_and_the_json(shard):
    found = scan_shard(shard)
    assert list(found.keys) == [f"u{i:03d}" for i in range(5)]
    content = shard.read_bytes()
    for offset, size in zip(found.columns["offset"], found.columns["size"]):
        assert content[offset : offset + 4] == b"fLaC"
        assert content[offset + size :][:1] in (b"\0", b"u")  # padding, or the next header
    for i, (offset, size) in enumerate(zip(found.columns["metadata_offset"], found.columns["metadata_size"])):
        assert json.loads(content[offset : offset + size])["text"] == f"text {i}"
    assert found.columns["duration"].tolist() == [1.0] * 5
    assert found.columns["dnsmos"].tolist() == pytest.approx([2.0, 2.1, 2.2, 2.3, 2.4])
    assert found.languages == ["en"]
    assert not broken(found)


def test_items_may_be_of_any_kind(tmp_path):
    members = {"x.codes.npy": b"codes", "x.json": b'{"duration": 2}', "x.flac": b"sound", "y.flac": b"sound"}
    found = scan_shard(add(tmp_path / "a.tar", members), items=("codes.npy",))
    assert list(found.keys) == ["x"]
    assert found.columns["size"].tolist() == [5]
    assert broken(found) == [("y", "no codes.npy member")]


class TestBroken:
    def test_what_the_tar_tells(self, tmp_path):
        members, reasons = broken_members()
        found = scan_shard(add(tmp_path / "a.tar", members))
        told_by_tar = {"nojson", "badjson", "oddscore", "noduration", "endless", "nested", "noaudio", "zero"}
        assert dict(broken(found)) == {key: reasons[key] for key in told_by_tar}
        assert set(found.keys) == {"good"} | set(reasons) - told_by_tar

    def test_a_truncated_tar_keeps_what_is_before_the_cut(self, shard):
        whole = shard.read_bytes()
        third = scan_shard(shard).columns["offset"][2]
        shard.write_bytes(whole[: third + 100])
        found = scan_shard(shard)
        assert list(found.keys) == ["u000", "u001"]
        assert any("tar is damaged" in reason for _, reason in broken(found))

    @pytest.mark.parametrize(("content", "word"), [(b"", "zero bytes"), (b"no tar at all" * 100, "tar is damaged")])
    def test_no_tar(self, tmp_path, content, word):
        (tmp_path / "a.tar").write_bytes(content)
        found = scan_shard(tmp_path / "a.tar")
        assert len(found) == 0
        assert word in found.broken_reasons[0]

    def test_a_shard_that_is_not_there_is_one_broken_entry(self, tmp_path):
        assert broken(scan_shard(tmp_path / "a.tar")) == [("", "shard cannot be read (No such file or directory)")]

    def test_one_key_twice(self, tmp_path):
        first, second = audio(format="WAV"), audio(format="FLAC")
        tar = add(tmp_path / "a.tar", {**sample("x", first), "x.flac": second})
        assert broken(scan_shard(tar)) == [("x", "key occurs twice in its shard")]

    def test_folders_in_a_tar_are_part_of_the_key(self, tmp_path):
        tar = add(tmp_path / "a.tar", {**sample("a/x", audio(format="WAV")), **sample("b/x", audio(format="WAV"))})
        assert list(scan_shard(tar).keys) == ["a/x", "b/x"]

    def test_a_name_that_is_no_text_is_kept_and_can_be_logged(self, tmp_path, caplog):
        with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as archive:
            archive.addfile(tarfile.TarInfo("\xe9.flac"))
        found = scan_shard(tmp_path / "a.tar")
        ((key, reason),) = broken(found)
        assert key.encode(errors="surrogateescape") == b"\xe9"
        SkipCounts().add_skipped([SkippedUtterance("a.tar", key, reason)])
        assert all(record.getMessage().encode() for record in caplog.records)


NESTED = b"[" * 100_000


class TestHostileMetadata:
    """Whatever a json says, an utterance is used, filtered or broken, and none ends the run."""

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b'{"duration": NaN}', "not between"),
            (b'{"duration": Infinity}', "not between"),
            (b'{"duration": -1}', "not between"),
            (b'{"duration": 1e9}', "not between"),
            (b'{"duration": 1e999}', "not between"),
            (b'{"duration": 1' + b"0" * 400 + b"}", "not between"),
            (b'{"duration": true}', "json member is damaged"),
            (b'{"duration": "1.0"}', "json member is damaged"),
            (b'{"duration": [1]}', "json member is damaged"),
            (b'{"duration": null}', "json member is damaged"),
            (b'{"duration": 1' + b"0" * 9000 + b"}", "json member is damaged|not between"),
            (NESTED, "json member is damaged"),
            (b'{"duration": 1, "x": ' + NESTED + b"}", "json member is damaged"),
            (b'{"a": ' * 50_000, "json member is damaged"),
            (b"[1]", "json member is damaged"),
            (b"null", "json member is damaged"),
            (b'{"duration": 1, "text": "\xff"}', "json member is damaged"),
            (b'{"duration": 1, "dnsmos": {}}', "json member is damaged"),
            (b'{"duration": 1, "dnsmos": false}', "json member is damaged"),
            (b'{"duration": 1, "language": 5}', "is no code"),
            (b'{"duration": 1, "language": "\\ud800"}', "is no code"),
            (b'{"duration": 1, "language": "' + b"x" * 1000 + b'"}', "is no code"),
            (b'{"duration": 1}' + b" " * LARGEST, "json member is larger than 1 MiB"),
        ],
        ids=range(23),
    )
    def test_broken(self, tmp_path, content, reason):
        with pytest.raises(MetadataError, match=reason):
            Metadata.parse(content)
        found = scan_shard(add(tmp_path / "a.tar", {"x.wav": b"sound", "x.json": content, **sample("y", b"sound")}))
        assert list(found.keys) == ["y"]
        assert list(found.broken_keys) == ["x"]

    def test_of_two_fields_of_one_name_the_last_counts(self):
        assert Metadata.parse(b'{"duration": 9, "duration": 1}').duration == 1

    def test_a_large_json_is_not_read(self, tmp_path):
        tar = tmp_path / "a.tar"
        with tarfile.open(tar, "w") as archive:
            for name, size in (("x.wav", 10), ("x.json", 100 << 20)):
                info = tarfile.TarInfo(name)
                info.size = size
                with open("/dev/zero", "rb") as zeros:
                    archive.addfile(info, zeros)
        assert broken(scan_shard(tar)) == [("x", "json member is larger than 1 MiB")]
