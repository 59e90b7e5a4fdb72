"""Batches of codes of all codebooks, with prompts of the same speakers."""

from itertools import islice

import numpy as np
import pytest
import torch

from esdcodec.dataset.codes_stream import CodesStream
from esdcodec.dataset.tokens import Tokens
from esdcodec.dataset.transcripts import Transcripts
from esdcodec.dataset.voiced_stream import VoicedBatches
from tests.token_corpora import spoken_items, write_tokens

N = 24


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Without any text."""
    folder = tmp_path_factory.mktemp("tokens")
    for shard in range(4):
        items = spoken_items(range(6 * shard, 6 * shard + 6))
        write_tokens(folder, f"{shard}", {k: (c, {"speaker": m["speaker"]}) for k, (c, m) in items.items()})
    return Transcripts(Tokens(folder), None, cache=folder / "cache")


def stream(corpus, **options):
    settings = {
        "segment_frames": 20, "voice_frames": (8, 12), "voice_share": 0.5, "batch_size": None, "max_frames": 150,
        "shuffle_window": 9, "seed": 1, "frame_rate": 25.0,
    }  # fmt: skip
    return CodesStream(corpus, **{**settings, **options})


def codes_of(key):
    return spoken_items([int(key[1:])])[key][0]


def occurs(piece: np.ndarray, whole: np.ndarray) -> bool:
    return any(np.array_equal(whole[:, i : i + piece.shape[1]], piece) for i in range(whole.shape[1]))


def test_a_batch_has_segments_of_utterances_and_prompts_of_their_speakers(corpus):
    of_stream = stream(corpus)
    prompted = []
    for batch in islice(of_stream, 12):
        assert batch.codes.shape[1] == batch.prompt.shape[1] == 3
        n_frames = 0
        for i, key in enumerate(batch.keys):
            own, prompt = batch.codes[i], batch.prompt[i]
            own, prompt = own[:, own[0] >= 0].numpy(), prompt[:, prompt[0] >= 0].numpy()
            assert own.shape[1] == min(20, codes_of(key).shape[1])
            assert occurs(own, codes_of(key))
            others = [f"u{n:03d}" for n in range(N) if n % 2 == int(key[1:]) % 2 and f"u{n:03d}" != key]
            prompted.append(prompt.shape[1])
            assert prompt.shape[1] == 0 or any(occurs(prompt, codes_of(other)) for other in others)
            n_frames += own.shape[1]
        assert (batch.n_targets, batch.seconds) == (n_frames, n_frames / 25)
        assert n_frames + sum(prompted[-len(batch.keys) :]) <= 150
    assert 0.3 < np.mean(np.array(prompted) > 0) < 0.7
    assert set(prompted) <= {0, 8, 9, 10, 11, 12}


def test_what_fills_up_stands_after_codes_and_before_prompts(corpus):
    batch = next(iter(stream(corpus, voice_share=1.0, segment_frames=100)))
    present = batch.codes[:, 0] >= 0
    assert (present.long().diff(dim=1) <= 0).all()
    assert ((batch.prompt[:, 0] >= 0).long().diff(dim=1) >= 0).all()


def test_all_acoustic_codebooks_are_learnt(corpus):
    found = torch.cat([batch.codebook for batch in islice(stream(corpus), 20)])
    assert set(found.tolist()) == {1, 2}


def test_workers_and_going_on_change_nothing(corpus):
    def contents(batches):
        return [(b.codes.tolist(), b.prompt.tolist(), b.codebook.tolist(), b.keys) for b in islice(batches, 4)]

    alone = list(islice(stream(corpus), 6))
    expected = contents(alone[2:])
    assert contents(VoicedBatches(stream(corpus), num_workers=2).batches(alone[1].after)) == expected


def test_two_ranks_read_what_one_reads_with_batches_twice_as_large(corpus):
    one = stream(corpus, batch_size=8, max_frames=10**6)
    two = [iter(stream(corpus, batch_size=4, max_frames=10**6, rank=r, n_ranks=2)) for r in range(2)]
    for batch in islice(one, 5):
        halves = [next(rank) for rank in two]
        assert batch.keys == halves[0].keys + halves[1].keys
        assert {half.n_targets for half in halves} == {batch.n_targets}
        assert batch.codebook.tolist() == torch.cat([half.codebook for half in halves]).tolist()
