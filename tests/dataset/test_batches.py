"""From shards to batches: exactly once and reproducible."""

import random
from collections import Counter

import numpy as np
import pytest
import torch

from esdcodec.audio import read
from esdcodec.dataset.batch import Segment
from esdcodec.dataset.loader import Source
from esdcodec.dataset.make_shards import write_shards
from esdcodec.dataset.skip_counts import SkipCounts
from esdcodec.dataset.stream import share, shuffle
from tests.corpora import add, audio, sample, utterance
from tests.dataset.batches import KEYS, keys, training, validation


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
        pieces = [piece for loaders in range(n_readers) for piece in share(shards, loaders, n_readers, None)]
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
        torch.testing.assert_close(batch.features["energy"], batch.audio[..., :24000].square().mean((1, 2)))

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
