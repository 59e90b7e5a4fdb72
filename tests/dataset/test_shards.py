"""Naming tar shards, and writing them."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import soundfile

from esdcodec.dataset.make_shards import ShardsExist, find_audio, folder_utterances, write_shards
from esdcodec.dataset.scan import scan_shard
from esdcodec.dataset.shards import list_shards, streams
from tests.audio_bytes import encoded, mp3
from tests.conftest import speech
from tests.corpora import audio, utterance


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

    @pytest.mark.parametrize("where", ["option", "list"])
    def test_a_bucket_is_refused_with_the_line_that_works(self, corpus, where):
        source = "s3://bucket/a-{000..003}.tar"
        if where == "list":
            (corpus / "s3.list").write_text(f"{source}\n")
        with pytest.raises(ValueError, match=r"give pipe:aws s3 cp s3://bucket/a-\{000\.\.003\}\.tar -"):
            list_shards(source if where == "option" else corpus / "s3.list")
        for other, command in (("gs://b/k.tar", "gcloud storage cat gs"), ("ftp2://h/k.tar", "COMMAND ftp2")):
            with pytest.raises(ValueError, match=f"give pipe:{command}"):
                list_shards(other)
        assert list_shards(f"pipe:aws s3 cp {source} -")[3] == "pipe:aws s3 cp s3://bucket/a-003.tar -"

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
    files = find_audio(source).files
    write_shards(folder_utterances(source, files, language="en", sample_rate=16000), tmp_path / "out")
    assert "bad.wav" in capsys.readouterr().out
    with tarfile.open(tmp_path / "out/shard-000000.tar") as archive:
        assert sorted(archive.getnames()) == ["anna_one_take_wav.flac", "anna_one_take_wav.json"]
        metadata = json.load(archive.extractfile("anna_one_take_wav.json"))
    assert metadata["speaker"] == "anna"
    assert metadata["text"] == "hello"
    assert metadata["duration"] == 0.5


def keys(folder):
    return [list(scan_shard(shard).keys) for shard in sorted(folder.glob("shard-*.tar"))]


class TestShardsThatExist:
    def test_are_left_alone(self, corpus):
        before = {file: file.read_bytes() for file in corpus.iterdir()}
        with pytest.raises(ShardsExist, match=r"shards already \(shard-000000\.tar"):
            write_shards([utterance(20)], corpus)
        assert {file: file.read_bytes() for file in corpus.iterdir()} == before

    def test_are_numbered_on_from_if_told(self, corpus):
        before = keys(corpus)
        new = write_shards([utterance(i) for i in (20, 21)], corpus, per_shard=1, existing="append")
        assert [shard.name for shard in new] == ["shard-000004.tar", "shard-000005.tar"]
        assert keys(corpus) == [*before, ["u020"], ["u021"]]
        assert list_shards(corpus / "shard.list") == list_shards(corpus)

    def test_are_replaced_if_told(self, corpus):
        write_shards([utterance(20)], corpus, existing="overwrite")
        assert keys(corpus) == [["u020"]]
        assert list_shards(corpus / "shard.list") == list_shards(corpus)

    @pytest.mark.parametrize("existing", ["append", "overwrite"])
    def test_stay_if_the_new_ones_fail(self, corpus, existing):
        def failing():
            yield utterance(20)
            raise OSError("disk full")

        before = keys(corpus)
        with pytest.raises(OSError, match="disk full"):
            write_shards(failing(), corpus, existing=existing)
        with pytest.raises(ValueError, match="no utterance"):
            write_shards([], corpus, existing=existing)
        assert keys(corpus) == before
        assert not list(corpus.glob("*.part")) + list(corpus.glob(".*.part"))

    def test_have_no_key_of_the_new_ones(self, corpus):
        with pytest.raises(ValueError, match="two utterances have the key 'u003'"):
            write_shards([utterance(3)], corpus, existing="append")


class TestCommand:
    @pytest.fixture
    def source(self, tmp_path):
        waveform = speech(0.5)[0, 0].numpy()
        folder = tmp_path / "in"
        folder.mkdir()
        for name, content in {
            "a b.wav": audio(waveform),
            "a_b.wav": audio(waveform),
            "c.FLAC": audio(waveform, format="FLAC"),
            "d.mp3": mp3(waveform, xing=False),
            "e.m4a": encoded(waveform, 24000, "ipod", "aac"),
            "c.txt": b"hello",
            "notes.md": b"words",
        }.items():
            (folder / name).write_bytes(content)
        (tmp_path / "more").mkdir()
        (tmp_path / "more/f.opus").write_bytes(audio(waveform, format="OGG", subtype="OPUS"))
        (folder / "linked").symlink_to(tmp_path / "more")
        (tmp_path / "more/back").symlink_to(folder)
        return folder

    def run(self, *args: object):
        command = [sys.executable, "-m", "esdcodec.dataset.make_shards", *map(str, args)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])

    def test_takes_all_that_can_be_read_and_says_what_is_left_out(self, source, tmp_path):
        result = self.run(source, tmp_path / "out")
        assert result.returncode == 0, result.stderr
        assert "6 files, 1 shards" in result.stdout
        assert "extension .md: 1" in result.stderr
        assert ".txt" not in result.stderr
        assert sorted(key for shard in keys(tmp_path / "out") for key in shard) == [
            "a_b_wav", "a_b_wav-2", "c_FLAC", "d_mp3", "e_m4a", "linked_f_opus",
        ]  # fmt: skip

    def test_fails_if_a_file_that_should_be_audio_cannot_be_read_whole(self, source, tmp_path):
        (source / "words.mp3").write_bytes(b"no sound" * 100)
        (source / "cut.flac").write_bytes(audio(format="FLAC")[:20000])
        (source / "gone.wav").symlink_to(source / "nowhere.wav")
        (source / "latin.wav").write_bytes(audio())
        (source / "latin.txt").write_bytes(b"\xe9")
        result = self.run(source, tmp_path / "out")
        assert result.returncode == 1
        for told in ("skipped: {}/words.mp3", "{}/cut.flac: ", "skipped: {}/gone.wav: link to nothing", "not UTF-8"):
            assert told.format(source) in result.stderr
        written = {key for shard in keys(tmp_path / "out") for key in shard}
        assert {"cut_flac", "latin_wav", "c_FLAC"} < written
        assert f"{len(written)} files, 1 shards" in result.stdout

    def test_asks_what_to_do_with_shards_that_exist(self, source, corpus):
        before = keys(corpus)
        result = self.run(source, corpus)
        assert result.returncode == 2
        assert "--append, --overwrite" in result.stderr
        assert keys(corpus) == before
        assert self.run(source, corpus, "--append").returncode == 0
        assert len(keys(corpus)) == 5
        assert self.run(source, corpus, "--overwrite").returncode == 0
        assert len(keys(corpus)) == 1
