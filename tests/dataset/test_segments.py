"""From tar shards to batches."""

import io
import json
import logging
import random
import tarfile

import numpy as np
import pytest
import soundfile
import torch
from conftest import speech

from esdcodec.dataset import stages
from esdcodec.dataset.batch import Segments, loader
from esdcodec.dataset.make_shards import Utterance, find_audio, folder_utterances, write_shards
from esdcodec.dataset.shards import list_shards


def utterance(i: int, seconds: float = 1.0, sample_rate: int = 24000) -> Utterance:
    waveform = speech(seconds, seed=i, sample_rate=sample_rate)[0, 0].numpy()
    return Utterance(f"u{i:03d}", waveform, sample_rate, f"speaker{i % 2}", "en", f"text {i}", 2.0 + i / 10)


@pytest.fixture
def corpus(tmp_path):
    write_shards([utterance(i) for i in range(12)], tmp_path, per_shard=3)
    return tmp_path


def keys(segments) -> list[str]:
    return [item.key for item in segments]


def make(source, **options):
    return Segments(str(source), **{"segment_length": 4800, "sample_rate": 24000, **options})


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


class TestOrder:
    def test_without_shuffling_it_is_read_once_in_order(self, corpus):
        assert keys(make(corpus)) == [f"u{i:03d}" for i in range(12)]

    def test_ranks_share_the_shards(self, corpus):
        parts = [keys(make(corpus, rank=rank, n_ranks=2)) for rank in range(2)]
        assert sorted(parts[0] + parts[1]) == [f"u{i:03d}" for i in range(12)]
        assert not set(parts[0]) & set(parts[1])

    def test_ranks_and_workers_share_an_epoch(self, corpus):
        seen = []
        for rank in range(2):
            batches = loader(make(corpus, rank=rank, n_ranks=2), 1, num_workers=2)
            seen += [key for batch in batches for key in batch.keys]
        assert sorted(seen) == [f"u{i:03d}" for i in range(12)]

    def test_shuffled_epochs_go_on_each_in_its_own_order(self, corpus):
        stream = iter(make(corpus, shuffle_buffer=1))
        epochs = [[next(stream).key for _ in range(12)] for _ in range(3)]
        assert epochs[0] != epochs[1] != epochs[2]
        assert len(set(epochs[0] + epochs[1])) == 12

    def test_reproducible_from_the_seed(self, corpus):
        def first(seed):
            stream = iter(make(corpus, shuffle_buffer=8, seed=seed))
            return [next(stream) for _ in range(20)]

        one, same, other = first(1), first(1), first(2)
        assert [i.key for i in one] == [i.key for i in same] != [i.key for i in other]
        assert all(np.array_equal(a.audio, b.audio) for a, b in zip(one, same))


class TestSegments:
    def test_length_rate_and_metadata(self, tmp_path):
        write_shards([utterance(0, sample_rate=16000)], tmp_path)
        (item,) = make(tmp_path, segment_length=12000)
        assert item.audio.shape == (12000,)
        assert item.audio.dtype == np.float32
        assert item.metadata == {
            "id": "u000", "text": "text 0", "duration": 1.0, "speaker": "speaker0", "language": "en", "dnsmos": 2.0,
        }  # fmt: skip

    def test_short_utterances_are_completed_with_zeros(self, corpus):
        item = next(iter(make(corpus, segment_length=30000)))
        assert np.abs(item.audio[:24000]).max() > 0
        assert not item.audio[24000:].any()

    def test_long_utterances_give_more_segments(self, tmp_path):
        write_shards([utterance(0, 3.0), utterance(1, 0.1)], tmp_path)
        got = keys(make(tmp_path, segment_length=24000, segments_per_utterance=None))
        assert got == ["u000"] * 3 + ["u001"]

    def test_crops_come_from_everywhere(self):
        item = stages.Item("ramp", np.arange(1000, dtype=np.float32), {})
        starts = {int(s.audio[0]) for s in stages.crop([item] * 300, 10, random.Random(0))}
        assert min(starts) < 50
        assert max(starts) > 940
        assert len(starts) > 200

    def test_shuffle_loses_nothing(self):
        items = [stages.Item(str(i), np.zeros(1, np.float32), {}) for i in range(50)]
        shuffled = keys(stages.shuffle(items, 8, random.Random(0)))
        assert shuffled != keys(items)
        assert sorted(shuffled) == sorted(keys(items))

    def test_training_on_nothing_is_an_error_not_a_wait(self, corpus):
        with pytest.raises(ValueError, match="no utterance in 4 shards"):
            next(iter(make(corpus, shuffle_buffer=4, filters={"languages": ["nope"]})))

    @pytest.mark.parametrize(
        ("filters", "kept"),
        [
            ({"min_duration": 1.5}, []),
            ({"max_duration": 0.5}, []),
            ({"min_dnsmos": 3.0}, ["u010", "u011"]),
            ({"languages": ["de"]}, []),
            ({"languages": ["en"], "min_duration": 0.5}, [f"u{i:03d}" for i in range(12)]),
        ],
    )
    def test_filters(self, corpus, filters, kept):
        assert keys(make(corpus, filters=filters)) == kept

    def test_batches(self, corpus):
        def extract(audio):
            return {"energy": torch.from_numpy(np.square(audio).mean(1))}

        batch = next(iter(loader(make(corpus, shuffle_buffer=4), 4, extract=extract)))
        assert batch.audio.shape == (4, 1, 4800)
        assert len(batch.keys) == 4
        torch.testing.assert_close(batch.teacher_inputs["energy"], batch.audio.square().mean((1, 2)))


class TestFormats:
    @pytest.mark.parametrize(
        ("extension", "options"),
        [
            ("mp3", {"format": "MP3"}),
            ("flac", {"format": "FLAC"}),
            ("wav", {"format": "WAV"}),
            ("ogg", {"format": "OGG"}),
        ],
    )
    def test_emilia_members(self, tmp_path, extension, options):
        self.add(tmp_path / "a.tar", {f"x.{extension}": self.audio(**options), "x.json": b'{"duration": 1.0}'})
        (item,) = make(tmp_path)
        assert item.key == "x"

    def test_broken_samples_are_skipped_and_told(self, tmp_path, caplog):
        good = self.audio(format="WAV")
        nan = io.BytesIO()
        soundfile.write(nan, np.full(2400, np.nan), 24000, format="WAV", subtype="FLOAT")
        members = {
            "nojson.wav": good,
            "badjson.wav": good, "badjson.json": b"{",
            "oddscore.wav": good, "oddscore.json": b'{"duration": 1, "dnsmos": "good"}',
            "noaudio.json": b'{"duration": 1}',
            "garbage.wav": b"garbage", "garbage.json": b'{"duration": 1}',
            "nan.wav": nan.getvalue(), "nan.json": b'{"duration": 1}',
            "good.wav": good, "good.json": b'{"duration": 1}',
        }  # fmt: skip
        self.add(tmp_path / "a.tar", members)
        with caplog.at_level(logging.WARNING):
            assert keys(make(tmp_path)) == ["good"]
        for name in ("nojson", "badjson", "oddscore", "noaudio", "garbage", "nan"):
            assert sum(f"{name} in {tmp_path}/a.tar: " in r.getMessage() for r in caplog.records) == 1

    @staticmethod
    def audio(**options) -> bytes:
        buffer = io.BytesIO()
        soundfile.write(buffer, speech(1.0)[0, 0].numpy(), 24000, **options)
        return buffer.getvalue()

    @staticmethod
    def add(tar, members):
        with tarfile.open(tar, "w") as archive:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))


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
    assert keys(make(tmp_path / "out/shard.list")) == ["anna_one_take_wav"]
