"""What is broken in shards is skipped, counted and named, and stops nothing until it is too much."""

import gzip
import io
import logging
import os
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from esdcodec.audio import opened, resample
from esdcodec.dataset import tar_stream
from esdcodec.dataset.decode import decode_segment
from esdcodec.dataset.loader import Source
from esdcodec.dataset.make_shards import write_shards
from esdcodec.dataset.shards import list_shards
from esdcodec.dataset.skip_counts import SkipCounts, TooMuchIsBroken
from tests.audio_bytes import encoded, mp3
from tests.conftest import speech
from tests.corpora import add, audio, broken_members, sample, utterance
from tests.dataset.batches import KEYS, keys, loaders, training, validation

MIN_RATE = {"min_sample_rate": 16000}


class TestBroken:
    @pytest.fixture
    def broken(self, tmp_path):
        members, reasons = broken_members()
        add(tmp_path / "a.tar", members)
        (tmp_path / "b.tar").write_bytes(b"")
        return tmp_path, reasons

    def test_training_goes_on_and_everything_is_counted(self, broken, caplog):
        folder, reasons = broken
        skip_counts = SkipCounts()
        with caplog.at_level(logging.WARNING):
            batches = training(folder, n=6, batch_size=2, skip_counts=skip_counts, max_broken_share=1, filters=MIN_RATE)
            for batch in batches:
                skip_counts.add(batch)
        assert set(keys(batches)) == {"good"}
        assert all(batch.audio.shape == (2, 1, 4800) for batch in batches)
        shard = f"{folder}/a.tar"
        assert {reason for name, reason in skip_counts.skipped if name == shard} == set(reasons.values())
        assert any("zero bytes" in reason for name, reason in skip_counts.skipped if name.endswith("b.tar"))
        for key, reason in reasons.items():
            assert any(f"skipped {key} in {shard}: {reason}" in r.getMessage() for r in caplog.records)

    def test_a_stream_tells_the_same(self, broken, monkeypatch):
        monkeypatch.setattr(tar_stream, "WAITS", ())
        folder, reasons = broken
        skip_counts = SkipCounts()
        piped = [f"pipe:cat {folder}/a.tar", f"pipe:cat {folder}/b.tar", f"pipe:cat {folder}/none.tar 2>/dev/null"]
        for batch in validation(piped, filters=MIN_RATE):
            skip_counts.add(batch)
        assert skip_counts.used == 1
        assert {reason for name, reason in skip_counts.skipped if "a.tar" in name} == set(reasons.values())
        for name in piped[1:]:
            assert any("cannot be read" in reason for shard, reason in skip_counts.skipped if shard == name)

    def test_validation_leaves_them_out(self, broken):
        assert keys(validation(broken[0], batch_size=3, filters=MIN_RATE)) == ["good"]

    def test_a_truncated_stream_keeps_what_is_before_the_cut(self, corpus, monkeypatch):
        monkeypatch.setattr(tar_stream, "WAITS", (0.0,))
        shard = list_shards(str(corpus))[0]
        with open(shard, "rb+") as stream:
            stream.truncate(60000)
        batches = validation([f"pipe:cat {shard}"])
        assert keys(batches) == ["u000"]
        assert any("cannot be read to its end" in s.reason for b in batches for s in b.skipped)

    def test_streamed_shards_that_are_gone_are_too_much_however_often_the_others_are_read(self, corpus, monkeypatch):
        """Three of four; of twenty in a hundred it is known only when twenty were tried."""
        monkeypatch.setattr(tar_stream, "WAITS", ())
        there, *_ = list_shards(str(corpus))
        gone = [f"pipe:cat {there}.{i}" for i in range(3)]
        skip_counts = SkipCounts()
        for batch in training([f"pipe:cat {there}", *gone], n=40, buffer=2, skip_counts=skip_counts):
            skip_counts.add(batch)
        assert skip_counts.used == 40
        with pytest.raises(TooMuchIsBroken, match=r"39 of 52 shards could not be .*exit code 1: cat: .*No such"):
            skip_counts.check(0.5)
        skip_counts.check(0.8)
        few = SkipCounts(used=1000, shards=Counter({"read": 2, "broken": 1, "utterances of read": 90}), n_shards=100)
        few.check(0.05)
        with pytest.raises(TooMuchIsBroken, match="10 of 30 shards"):
            sum([few] * 10, SkipCounts()).check(0.05)

    def test_a_shard_of_which_little_is_missing_counts_for_little(self):
        shards = Counter({"read": 20, "broken": 2, "utterances of read": 2000, "utterances of broken": 190})
        SkipCounts(used=2190, shards=shards, n_shards=22).check(0.01)
        shards["utterances of broken"] = 20
        with pytest.raises(TooMuchIsBroken):
            SkipCounts(used=2190, shards=shards, n_shards=22).check(0.05)

    @pytest.mark.parametrize("n_failures", [2, 9])
    def test_a_pipe_that_fails_is_tried_again_and_named(self, corpus, tmp_path, monkeypatch, n_failures):
        """Each utterance once, wherever it broke."""
        waited = []
        monkeypatch.setattr(tar_stream, "sleep", waited.append)
        shard = list_shards(str(corpus))[0]
        log = tmp_path / "tries"
        command = f"pipe:echo x >> {log}; if [ $(wc -l < {log}) -le {n_failures} ]; then head -c 60000 {shard}; "
        command += f"echo too many requests >&2; exit 7; else cat {shard}; fi"
        batches = validation([command])
        skipped = [skip.reason for batch in batches for skip in batch.skipped]
        assert keys(batches) == (KEYS[:3] if n_failures == 2 else KEYS[:1])
        assert len(log.read_text().split()) == min(n_failures + 1, 4)
        assert waited == list(tar_stream.WAITS)[:n_failures]
        reason = "shard cannot be read to its end (its command ended with exit code 7: too many requests)"
        assert (reason in skipped) == (n_failures == 9)

    def test_a_command_that_is_stopped_at_the_end_of_the_tar_has_not_failed(self, corpus):
        shard = list_shards(str(corpus))[0]
        batches = validation([f"pipe:cat {shard} && head -c 10000000 /dev/zero"])
        assert keys(batches) == KEYS[:3]
        assert not any(batch.skipped for batch in batches)

    def test_compressed_shards_stream(self, corpus, tmp_path):
        shard = list_shards(str(corpus))[0]
        with open(shard, "rb") as plain:
            (tmp_path / "z.tar.gz").write_bytes(gzip.compress(plain.read()))
        assert keys(validation(str(tmp_path / "z.tar.gz"))) == KEYS[:3]

    def test_other_rates_and_stereo_are_made_usable_and_counted(self, tmp_path):
        stereo = np.stack([speech(1.0, sample_rate=44100)[0, 0].numpy()] * 2, 1)
        add(tmp_path / "a.tar", sample("x", audio(stereo, rate=44100, format="WAV")))
        (batch,) = validation(tmp_path)
        assert batch.converted == {"2 channels averaged": 1, "resampled from 44100 Hz": 1}

    def test_too_much_is_an_error(self, tmp_path):
        good = audio(format="WAV")
        members = {f"b{i:03d}.wav": good for i in range(30)}
        for i in range(90):
            members |= sample(f"g{i:03d}", good)
        add(tmp_path / "a.tar", members)
        training(tmp_path, n=1, max_broken_share=0.3)
        with pytest.raises(TooMuchIsBroken, match=r"30 of 120 .*no json member: 30"):
            training(tmp_path, n=1, max_broken_share=0.2)

    def test_an_unreadable_shard_weighs_as_much_as_the_others(self, tmp_path):
        for i in range(4):
            (tmp_path / f"z{i}.tar").write_bytes(b"")
        many = write_shards([utterance(i, 0.1) for i in range(200)], tmp_path / "many", per_shard=50)
        empty = [str(tmp_path / f"z{i}.tar") for i in range(4)]
        training([*map(str, many), *empty], n=1, max_broken_share=0.6)
        with pytest.raises(TooMuchIsBroken, match="200 of 400"):
            training([*map(str, many), *empty], n=1, max_broken_share=0.4)

    def test_audio_that_never_decodes_is_an_error_not_a_wait(self, tmp_path):
        add(tmp_path / "a.tar", {**sample("x", b"garbage"), **sample("y", b"more garbage")})
        with pytest.raises(ValueError, match="in a row could not be read"):
            training(tmp_path, n=1)
        with pytest.raises(ValueError, match="no utterance in 1 shards"):
            training([f"pipe:cat {tmp_path}/a.tar"], n=1)

    def test_a_shard_that_disappears_is_counted(self, corpus):
        gone = list_shards(str(corpus))[1]
        training(corpus, n=1)  # indexed now
        made = loaders().training(
            Source.parse(str(corpus)),
            segment_length=4800,
            per_utterance=1,
            shuffle_buffer=4,
            shuffle_window=4,
            seed=0,
            skip_counts=SkipCounts(),
        )
        os.remove(gone)
        batches = list(islice(made.batches(0), 12))
        assert {s.reason for b in batches for s in b.skipped} == {"shard cannot be read (No such file or directory)"}
        assert set(keys(batches)) == set(KEYS[:3] + KEYS[6:])


@pytest.fixture(scope="module")
def unsure():
    """Members whose header, or metadata, has their length wrong or not at all."""
    waveform = np.concatenate([speech(1.0, seed=i)[0, 0].numpy() for i in range(3)])
    waveform[24000:60000] *= 1e-2  # a variable rate varies; what is quieter, an encoder of mp3 writes as zeros
    flac = audio(waveform, format="FLAC")
    ogg = audio(waveform[:36000], format="OGG", subtype="VORBIS")
    return {
        **sample("a", mp3(waveform, xing=False), "mp3", duration=40),
        **sample("b", encoded(waveform, 24000, "flac", "flac", pipe=True), "flac", duration=0.1),
        **sample("c", 2 * ogg, "ogg"),
        **sample("d", 2 * mp3(waveform[:36000]), "mp3"),
        **sample("e", encoded(waveform, 24000, "ipod", "aac"), "m4a"),
        **sample("f", encoded(waveform, 24000, "webm", "libopus"), "webm"),
        **sample("g", mp3(waveform)[: 2 * len(mp3(waveform)) // 3], "MP3"),
        **sample("h", flac[: 2 * len(flac) // 3], "flac"),
        **sample("i", encoded(waveform, 24000, "wav", "pcm_s16le", pipe=True), "WAV"),
    }


class TestLengths:
    """Crops lie inside what decodes, whatever headers and metadata say."""

    @pytest.mark.parametrize("seed", [0, 1, 2])
    @pytest.mark.parametrize("streamed", [False, True])
    def test_every_crop_is_full(self, unsure, tmp_path, streamed, seed):
        shard, skip_counts = add(tmp_path / "a.tar", unsure), SkipCounts()
        source = [f"pipe:cat {shard}"] if streamed else [str(shard)]
        batches = training(source, n=36, length=24000, seed=seed, skip_counts=skip_counts)
        assert set(keys(batches)) == set("abcdefghi")
        short = [batch.keys[0] for batch in batches if not batch.audio[0, 0, -240:].any()]  # it ends with zeros
        assert short == []
        assert not skip_counts.skipped

    @pytest.mark.parametrize("key", "abcdefghi")
    def test_a_crop_at_any_place_is_that_piece_of_the_recording(self, unsure, key):
        (content,) = (member for name, member in unsure.items() if name[0] == key and not name.endswith("json"))
        with opened(io.BytesIO(content)) as (rate, blocks):
            whole = np.concatenate(list(blocks))
        whole = resample(whole, rate, 24000)
        for place in np.linspace(0, 1, 41):
            crop = decode_segment(content, 24000, 24000, place, min_sample_rate=8000, converted=Counter())
            assert len(crop) == 24000
            starts = [round(place * (n - 24000)) for n in (len(whole), 72000)]  # FLAC: of the stated length, if it can
            assert min(np.abs(crop - whole[s:][:24000]).max() for s in starts if s + 24000 <= len(whole)) < 1e-6
