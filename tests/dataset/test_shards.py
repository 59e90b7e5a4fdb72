"""Naming tar shards, and writing them."""

import json
import tarfile

import pytest
import soundfile
from conftest import speech
from corpora import utterance

from esdcodec.dataset.make_shards import find_audio, folder_utterances, write_shards
from esdcodec.dataset.shards import list_shards, streams


@pytest.fixture
def corpus(tmp_path):
    write_shards([utterance(i) for i in range(12)], tmp_path, per_shard=3)
    return tmp_path


class TestListing:
    def test_sources(self, corpus):
        shards = [str(corpus / f"shard-{i:06d}.tar") for i in range(4)]
        assert list_shards(corpus) == shards
        assert list_shards(corpus / "shard.list") == shards
        assert list_shards(str(corpus / "*.tar")) == shards
        assert list_shards(str(corpus / "shard-{000000..000001}.tar")) == shards[:2]
        assert list_shards([shards[0], shards[3]]) == [shards[0], shards[3]]
        assert list_shards("pipe:cat a.tar") == ["pipe:cat a.tar"]

    def test_list_with_comments_and_paths_relative_to_it(self, corpus):
        (corpus / "mine.list").write_text("# half of it\n\nshard-000001.tar\n")
        assert list_shards(corpus / "mine.list") == [str(corpus / "shard-000001.tar")]

    @pytest.mark.parametrize(
        ("missing", "named"),
        [
            ("no.list", r"no\.list"),
            ("folder", "folder"),
            ("*.tar", r"\*\.tar"),
            ("x-{0..3}.tar", r"x-0\.tar"),
            ("", "no tar"),
        ],
    )
    def test_missing_sources_are_named(self, tmp_path, missing, named):
        with pytest.raises(FileNotFoundError, match=named):
            list_shards(str(tmp_path / missing))

    def test_a_list_with_a_missing_shard_names_it(self, corpus):
        (corpus / "bad.list").write_text("shard-000001.tar\ngone.tar\n")
        with pytest.raises(FileNotFoundError, match=r"gone\.tar"):
            list_shards(corpus / "bad.list")

    @pytest.mark.parametrize(
        ("shard", "streamed"),
        [
            ("a.tar", False),
            ("/x/a.tar", False),
            ("a.tar.gz", True),
            ("pipe:cat a.tar", True),
            ("https://h/a.tar", True),
        ],
    )
    def test_which_can_only_be_read_from_front_to_back(self, shard, streamed):
        assert streams(shard) == streamed


def test_two_utterances_with_one_key_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two utterances have the key 'u000'"):
        write_shards([utterance(0), utterance(0)], tmp_path)


def test_a_folder_of_audio_becomes_shards(tmp_path, capsys):
    source = tmp_path / "in"
    (source / "anna").mkdir(parents=True)
    soundfile.write(source / "anna" / "one.take.wav", speech(0.5)[0, 0].numpy(), 24000)
    (source / "anna" / "one.take.txt").write_text("hello\n")
    (source / "bad.wav").write_bytes(b"x")
    write_shards(folder_utterances(source, find_audio(source), language="en", sample_rate=16000), tmp_path / "out")
    assert "bad.wav" in capsys.readouterr().out
    with tarfile.open(tmp_path / "out/shard-000000.tar") as archive:
        assert sorted(archive.getnames()) == ["anna_one_take_wav.flac", "anna_one_take_wav.json"]
        metadata = json.load(archive.extractfile("anna_one_take_wav.json"))
    assert metadata["speaker"] == "anna"
    assert metadata["text"] == "hello"
    assert metadata["duration"] == 0.5
