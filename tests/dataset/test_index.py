"""What is inside a shard, read once."""

import json
import os

import pytest

from esdcodec.dataset import index
from esdcodec.dataset.index import ShardIndex, build, index_all, shard_index
from esdcodec.dataset.make_shards import write_shards
from tests.corpora import add, audio, broken_members, sample, utterance


@pytest.fixture
def shard(tmp_path):
    return write_shards([utterance(i) for i in range(5)], tmp_path)[0]


def test_offsets_lead_to_the_audio(shard):
    found = shard_index(shard)
    assert found.keys == [f"u{i:03d}" for i in range(5)]
    content = shard.read_bytes()
    for offset, size in zip(found.offsets, found.sizes):
        assert content[offset : offset + 4] == b"fLaC"
        assert content[offset + size :][:1] in (b"\0", b"u")  # padding, or the next header
    assert found.durations == [1.0] * 5
    assert found.dnsmos == [2.0, 2.1, 2.2, 2.3, 2.4]
    assert set(found.languages) == {"en"}
    assert not found.broken


class TestCache:
    @pytest.fixture
    def builds(self, monkeypatch):
        built = []
        monkeypatch.setattr(index, "build", lambda shard: built.append(shard) or build(shard))
        return built

    def test_read_once(self, shard, builds):
        first = shard_index(shard)
        assert shard_index(shard) == first
        assert len(builds) == 1

    @pytest.mark.parametrize("damage", [b"", b"{", b'{"format": "esdcodec-index-3", "keys": 3}', b"[]"])
    def test_a_damaged_cache_is_made_again(self, shard, builds, damage):
        first = shard_index(shard)
        shard.with_name(f"{shard.name}.index").write_bytes(damage)
        assert shard_index(shard) == first
        assert len(builds) == 2

    def test_a_changed_shard_is_read_again(self, shard, builds, tmp_path):
        shard_index(shard)
        write_shards([utterance(9)], tmp_path, existing="overwrite")
        os.utime(shard, ns=(1, 1))
        assert shard_index(shard).keys == ["u009"]

    def test_another_folder_takes_it_where_the_shards_folder_is_not_to_be_written(self, shard, builds, monkeypatch):
        writable = shard.parent / "home"
        monkeypatch.setenv("XDG_CACHE_HOME", str(writable))
        (shard.parent / f"{shard.name}.index").mkdir()  # nothing can be written there, by root neither
        assert shard_index(shard) == shard_index(shard)
        assert len(builds) == 1
        assert list(writable.rglob("*.index"))

    def test_several_processes(self, tmp_path, builds):
        shards = write_shards([utterance(i) for i in range(4)], tmp_path, per_shard=1)
        index_all([str(s) for s in shards], processes=2)
        assert [shard_index(s).keys for s in shards] == [[f"u{i:03d}"] for i in range(4)]
        assert not builds


class TestBroken:
    def test_what_the_tar_tells(self, tmp_path):
        members, reasons = broken_members()
        found = build(add(tmp_path / "a.tar", members))
        told_by_tar = {"nojson", "badjson", "oddscore", "noduration", "endless", "nested", "noaudio", "zero"}
        assert dict(found.broken) == {key: reasons[key] for key in told_by_tar}
        assert set(found.keys) == {"good"} | set(reasons) - told_by_tar

    def test_a_truncated_tar_keeps_what_is_before_the_cut(self, shard):
        whole = shard.read_bytes()
        third = shard_index(shard).offsets[2]
        shard.write_bytes(whole[: third + 100])
        found = build(shard)
        assert found.keys == ["u000", "u001"]
        assert any("tar is damaged" in reason for _, reason in found.broken)

    @pytest.mark.parametrize(("content", "word"), [(b"", "zero bytes"), (b"no tar at all" * 100, "tar is damaged")])
    def test_no_tar(self, tmp_path, content, word):
        (tmp_path / "a.tar").write_bytes(content)
        found = build(tmp_path / "a.tar")
        assert len(found) == 0
        assert word in found.broken[0][1]

    def test_one_key_twice(self, tmp_path):
        first, second = audio(format="WAV"), audio(format="FLAC")
        tar = add(tmp_path / "a.tar", {**sample("x", first), "x.flac": second})
        assert build(tar).broken == [("x", "key occurs twice in its shard")]

    def test_folders_in_a_tar_are_part_of_the_key(self, tmp_path):
        tar = add(tmp_path / "a.tar", {**sample("a/x", audio(format="WAV")), **sample("b/x", audio(format="WAV"))})
        assert build(tar).keys == ["a/x", "b/x"]


def test_the_cache_is_json_that_anybody_can_read(shard):
    shard_index(shard)
    fields = json.loads(shard.with_name(f"{shard.name}.index").read_text())
    assert set(fields) == {"format", *ShardIndex.__dataclass_fields__}
