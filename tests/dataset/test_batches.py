"""From shards to batches: exactly once, reproducible, unstoppable by what is broken, and never silent about it."""

import gzip
import logging
import os
import random
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from esdcodec.audio import read
from esdcodec.dataset import tar_stream
from esdcodec.dataset.batch import Segment
from esdcodec.dataset.filters import Filters
from esdcodec.dataset.loader import Reader, Source
from esdcodec.dataset.make_shards import write_shards
from esdcodec.dataset.shards import list_shards
from esdcodec.dataset.skip_counts import SkipCounts, TooMuchIsBroken
from esdcodec.dataset.stream import share, shuffle
from tests.audio_bytes import encoded, mp3
from tests.conftest import speech
from tests.corpora import add, audio, broken_members, sample, utterance

KEYS = [f"u{i:03d}" for i in range(12)]


@pytest.fixture
def corpus(tmp_path):
    write_shards([utterance(i) for i in range(12)], tmp_path, per_shard=3)
    return tmp_path / "shard.list"


@pytest.fixture
def streamed(corpus):
    """The same corpus through a pipe."""
    return [f"pipe:cat {shard}" for shard in list_shards(corpus)]


def reader(**options) -> Reader:
    filters = Filters(**options.pop("filters", {}))
    return Reader(
        filters, **{"sample_rate": 24000, "batch_size": 1, "num_workers": 0, "max_broken_share": 0.5, **options}
    )


def training(source, *, position=0, n=None, seed=0, per_utterance=1, extract=None, length=4800, buffer=8, **options):
    """The first `n` batches from `place` on."""
    skip_counts = options.pop("skip_counts", SkipCounts())
    source = Source.parse(source if isinstance(source, list) else str(source))
    batches = (
        reader(**options)
        .training(
            source,
            segment_length=length,
            per_utterance=per_utterance,
            shuffle_buffer=buffer,
            shuffle_window=buffer,
            seed=seed,
            skip_counts=skip_counts,
            extract=extract,
        )
        .batches(position)
    )
    found = list(islice(batches, n))
    batches.close()
    return found


def validation(source, length=4800, **options):
    sources = Source.parse(source if isinstance(source, list) else str(source))
    return list(reader(**options).validation(sources, segment_length=length))


def keys(batches) -> list[str]:
    return [key for batch in batches for key in batch.keys]


class TestExactlyOnce:
    @pytest.mark.parametrize("kind", ["corpus", "streamed"])
    def test_two_ranks_of_two_workers_share_an_epoch(self, kind, request):
        source = request.getfixturevalue(kind)
        options = {"n": 6, "num_workers": 2, "n_ranks": 2, "buffer": 4 if kind == "corpus" else 1}
        if kind == "corpus":
            for epoch in range(2):
                seen = [
                    k for rank in range(2) for k in keys(training(source, rank=rank, position=12 * epoch, **options))
                ]
                assert Counter(seen) == Counter(KEYS)
        else:
            assert Counter(self.streamed_epoch(source)) == Counter(KEYS)

    @staticmethod
    def streamed_epoch(source) -> list[str]:
        """One epoch of a stream knows no positions: it is read without shuffling."""
        return [key for rank in range(2) for key in keys(validation(source, rank=rank, n_ranks=2))]

    @pytest.mark.parametrize("n_shards", [1, 2, 3, 7])
    @pytest.mark.parametrize("n_readers", [1, 2, 4, 5])
    def test_readers_of_a_stream_share_all_pieces(self, n_shards, n_readers):
        shards = [str(i) for i in range(n_shards)]
        pieces = [piece for reader in range(n_readers) for piece in share(shards, reader, n_readers, None)]
        assert len(pieces) == len(set(pieces))
        for shard in shards:
            parts = [(part, n_parts) for name, part, n_parts in pieces if name == shard]
            assert sorted(parts) == [(i, parts[0][1]) for i in range(parts[0][1])]

    @pytest.mark.parametrize("kind", ["corpus", "streamed"])
    @pytest.mark.parametrize("n_ranks", [1, 2, 5])
    def test_validation_reads_once_whatever_the_number_of_ranks(self, kind, n_ranks, request):
        source = request.getfixturevalue(kind)
        seen = [k for rank in range(n_ranks) for k in keys(validation(source, rank=rank, n_ranks=n_ranks))]
        assert sorted(seen) == KEYS


class TestOrder:
    def test_reproducible_from_the_seed_with_new_epochs(self, corpus):
        first, same, other = (training(corpus, n=24, seed=seed) for seed in (0, 0, 1))
        assert keys(first) == keys(same) != keys(other)
        assert all(torch.equal(a.audio, b.audio) for a, b in zip(first, same))
        assert keys(first)[:12] != keys(first)[12:] != KEYS
        assert sorted(keys(first)[:12]) == sorted(keys(first)[12:]) == KEYS

    def test_workers_and_ranks_change_nothing(self, corpus):
        whole = training(corpus, n=4, batch_size=6)
        workers = training(corpus, n=4, batch_size=6, num_workers=2)
        assert all(torch.equal(a.audio, b.audio) for a, b in zip(whole, workers))
        ranks = [training(corpus, n=4, batch_size=3, rank=rank, n_ranks=2) for rank in range(2)]
        for batch, left, right in zip(whole, *ranks):
            assert torch.equal(batch.audio, torch.cat([left.audio, right.audio]))

    def test_going_on_at_a_position_is_having_been_there(self, corpus):
        straight = training(corpus, n=10, batch_size=3)
        resumed = training(corpus, n=5, batch_size=3, position=15)
        assert all(torch.equal(a.audio, b.audio) for a, b in zip(straight[5:], resumed))

    def test_a_mix_has_the_shares_of_its_weights(self, corpus, tmp_path):
        other = tmp_path / "other"
        write_shards([utterance(i) for i in range(100, 103)], other)
        mix = [{"shards": str(corpus), "weight": 3}, {"shards": str(other), "weight": 1}]
        seen = keys(training(mix, n=1000))
        assert sum(key >= "u100" for key in seen) == 250
        assert {seen.count(key) for key in KEYS} == {62, 63}  # 750 / 12

    def test_a_mix_needs_weights(self, corpus):
        with pytest.raises(ValueError, match="positive `weight`"):
            Source.parse([{"shards": str(corpus)}])

    def test_shuffling_a_stream_loses_nothing(self):
        segments = [Segment(str(i), np.zeros(1, np.float32)) for i in range(50)]
        shuffled = [s.key for s in shuffle(segments, 8, random.Random(0))]
        assert shuffled != [s.key for s in segments]
        assert sorted(shuffled) == sorted(s.key for s in segments)


class TestSegments:
    def test_crops_are_pieces_of_their_utterance_from_everywhere(self, tmp_path):
        ramp = np.linspace(-1, 1, 24000, dtype=np.float32)
        add(tmp_path / "a.tar", sample("ramp", audio(ramp, format="WAV", subtype="FLOAT")))
        starts = [batch.audio[0, 0, 0].item() for batch in training(tmp_path, n=300, length=240)]
        assert min(starts) < -0.95
        assert max(starts) > 0.93
        assert len(set(starts)) > 200
        validated = validation(tmp_path, length=240)[0].audio[0, 0]
        torch.testing.assert_close(validated, torch.from_numpy(ramp[11880:12120]))  # from the middle

    @pytest.mark.parametrize("kind", ["corpus", "streamed"])
    def test_zeros_complete_what_is_short_but_the_teacher_does_not_see_them(self, kind, request):
        lengths = []

        def extract(waveforms):
            lengths.extend(len(w) for w in waveforms)
            return {"energy": torch.tensor([float(np.square(w).mean()) for w in waveforms])}

        (batch,) = training(request.getfixturevalue(kind), n=1, batch_size=4, length=30000, extract=extract)
        assert batch.audio.shape == (4, 1, 30000)
        assert batch.audio[..., :24000].abs().amax() > 0
        assert not batch.audio[..., 24000:].any()
        assert lengths == [24000] * 4
        torch.testing.assert_close(batch.teacher_inputs["energy"], batch.audio[..., :24000].square().mean((1, 2)))

    def test_long_utterances_count_for_more(self, tmp_path):
        shards = write_shards([utterance(0, 3.0), utterance(1, 0.1)], tmp_path)
        assert sorted(keys(training(shards[0], n=4, length=24000, per_utterance=None))) == ["u000"] * 3 + ["u001"]
        assert sorted(keys(training(shards[0], n=4, length=24000, per_utterance=2))) == ["u000"] * 2 + ["u001"] * 2
        piped = [f"pipe:cat {shards[0]}"]
        seen = Counter(keys(training(piped, n=40, length=24000, per_utterance=None, buffer=1)))
        assert seen["u000"] == pytest.approx(3 * seen["u001"], abs=3)

    @pytest.mark.parametrize("extension", ["mp3", "flac", "wav", "ogg", "opus"])
    def test_formats(self, tmp_path, extension):
        kind = {"opus": {"format": "OGG", "subtype": "OPUS"}}.get(extension, {"format": extension.upper()})
        content = audio(**kind)
        add(tmp_path / "a.tar", sample("x", content, extension))
        (batch,) = validation(tmp_path, length=24000)
        (tmp_path / "x").write_bytes(content)
        n = min(24000, len(read(tmp_path / "x")[0]))
        assert np.abs(batch.audio[0, 0, :n].numpy() - read(tmp_path / "x")[0][:n]).max() < 0.02

    @pytest.mark.parametrize("kind", ["corpus", "streamed"])
    @pytest.mark.parametrize(
        ("filters", "kept"),
        [
            ({"min_duration": 1.5}, []),
            ({"max_duration": 0.5}, []),
            ({"min_dnsmos": 3.0}, ["u010", "u011"]),
            ({"languages": ("de",)}, []),
            ({"languages": ("en",), "min_duration": 0.5}, KEYS),
        ],
    )
    def test_filters(self, kind, request, filters, kept):
        source = request.getfixturevalue(kind)
        if kept:
            skip_counts = SkipCounts()
            batches = training(source, n=3 * len(kept), filters=filters, skip_counts=skip_counts)
            assert set(keys(batches)) == set(kept)
            dropped = skip_counts.converted + sum((b.converted for b in batches), Counter())
            if len(kept) < 12:
                assert dropped["dropped: dnsmos below 3"] >= 10
        else:
            with pytest.raises(ValueError, match="no utterance in 4 shards"):
                training(source, n=1, filters=filters)


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
        made = reader().training(
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


MIN_RATE = {"min_sample_rate": 16000}


class TestLengths:
    """Crops lie inside what decodes, whatever headers and metadata say."""

    @pytest.fixture
    def shard(self, tmp_path):
        waveform = np.concatenate([speech(1.0, seed=i)[0, 0].numpy() for i in range(3)])
        waveform[24000:60000] *= 1e-3  # a variable rate varies
        flac = audio(waveform, format="FLAC")
        ogg = audio(waveform[:36000], format="OGG", subtype="VORBIS")
        members = {
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
        return add(tmp_path / "a.tar", members)

    @pytest.mark.parametrize("streamed", [False, True])
    def test_every_crop_is_full(self, shard, streamed):
        skip_counts = SkipCounts()
        source = [f"pipe:cat {shard}"] if streamed else [str(shard)]
        batches = training(source, n=36, length=24000, skip_counts=skip_counts)  # at other seeds some end in zeros
        assert set(keys(batches)) == set("abcdefghi")
        short = [batch.keys[0] for batch in batches if not batch.audio[0, 0, -2400:].any()]  # it ends with zeros
        assert short == []
        assert not skip_counts.skipped
