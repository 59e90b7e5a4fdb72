"""Batches of text and codes, and what is known of a corpus' texts."""

import pickle
from itertools import islice

import numpy as np
import pytest

pytest.importorskip("transformers")

from esdcodec.dataset.text_stream import BatchSizes, TextStream
from esdcodec.dataset.tokens import Tokens
from esdcodec.dataset.transcripts import Transcripts
from esdcodec.dataset.voiced_stream import VoicedBatches
from esdcodec.model_tts.packing import IGNORED
from esdcodec.model_tts.sequence import SpeechVocabulary
from esdcodec.model_tts.text import ByteText
from tests.token_corpora import spoken_items, write_tokens

VOCABULARY = SpeechVocabulary(256, 20)
SIZES = BatchSizes(
    max_tokens=300, batch_size=None, row_tokens=100, max_sequence=200, voice_share=0.5, voice_frames=(5, 60)
)
N_SHARDS, PER_SHARD = 4, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    for shard in range(N_SHARDS):
        write_tokens(folder, f"{shard}", spoken_items(range(shard * PER_SHARD, (shard + 1) * PER_SHARD)))
    return folder


@pytest.fixture(scope="module")
def corpus(folder):
    return transcripts(folder)


def transcripts(folder, **options):
    return Transcripts(Tokens(folder, n_quantizers=1), ByteText(), text_field="text", cache=folder / "cache", **options)


def stream(corpus, **options):
    sizes = BatchSizes(**{**vars(SIZES), **{k: options.pop(k) for k in list(options) if k in vars(SIZES)}})
    return TextStream(corpus, VOCABULARY, sizes, frame_rate=25.0, **{"shuffle_window": 9, "seed": 1, **options})


def contents(batch):
    """Of a batch: its tokens, row by row."""
    return batch.sequences.tokens.tolist()


class TestStream:
    @pytest.mark.parametrize("limit", [{}, {"batch_size": 3}], ids=["tokens", "utterances"])
    def test_an_epoch_has_every_utterance_once_over_all_ranks(self, corpus, limit):
        found = []
        ranks = [iter(stream(corpus, rank=r, n_ranks=3, **limit)) for r in range(3)]
        while len(found) < 24:
            batches = [next(rank) for rank in ranks]
            assert len({batch.after for batch in batches}) == 1
            found += [key for batch in batches for key in batch.keys]
        assert sorted(found[:24]) == [f"u{i:03d}" for i in range(24)]

    def test_a_budget_of_tokens_is_kept(self, corpus):
        of_stream = stream(corpus)
        for batch in islice(of_stream, 20):
            used = int((batch.sequences.segments >= 0).sum())
            positions = range(batch.first, batch.after)
            assert used == sum(map(of_stream.length, positions)) <= 300
            assert used + of_stream.length(batch.after) > 300  # no room for one more

    def test_workers_change_nothing_and_a_run_goes_on_where_it_was(self, corpus):
        alone = [contents(batch) for batch in islice(stream(corpus), 9)]
        batches = VoicedBatches(stream(corpus), num_workers=2)
        assert [contents(batch) for batch in islice(batches.batches(0), 9)] == alone
        third = next(islice(stream(corpus), 2, 3))
        assert [contents(batch) for batch in islice(batches.batches(third.after), 6)] == alone[3:]

    def test_two_ranks_read_what_one_reads_with_batches_twice_as_large(self, corpus):
        one = stream(corpus, batch_size=8, max_tokens=10**6)
        two = [iter(stream(corpus, batch_size=4, max_tokens=10**6, rank=r, n_ranks=2)) for r in range(2)]
        for batch in islice(one, 5):
            halves = [next(rank) for rank in two]
            assert batch.keys == [key for half in halves for key in half.keys]
            assert [half.n_targets for half in halves] == [batch.n_targets] * 2
            assert [half.seconds for half in halves] == [batch.seconds] * 2
            learnt = [int((b.sequences.targets != IGNORED).sum()) for b in (batch, *halves)]
            assert learnt[0] == batch.n_targets == learnt[1] + learnt[2]

    def test_half_have_another_utterance_of_their_speaker_before_them(self, corpus):
        of_stream = stream(corpus)
        voices = {position: of_stream.voice(position) for position in range(200)}
        voiced = {position: voice for position, voice in voices.items() if voice is not None}
        assert 0.35 < len(voiced) / 200 < 0.65
        for position, voice in voiced.items():
            number = of_stream.utterance(position)
            assert number != voice
            assert number % 2 == voice % 2  # of two speakers
        assert voices == {position: stream(corpus).voice(position) for position in range(200)}
        assert voices != {position: stream(corpus, seed=2).voice(position) for position in range(200)}

    @pytest.mark.parametrize("none", [{"voice_share": 0.0}, {"voice_frames": (100, 200)}, {"max_sequence": 60}])
    def test_no_voice_that_is_not_wanted_or_has_no_room(self, corpus, none):
        of_stream = stream(corpus, **none)
        for position in range(100):
            if of_stream.voice(position) is not None:
                assert of_stream.length(position) <= none.get("max_sequence", 0)

    def test_validation_has_every_utterance_once_and_the_same_ones_always(self, corpus):
        ranks = [stream(corpus, shuffle_window=0, rank=r, n_ranks=2) for r in range(2)]
        found = [[key for batch in rank.once() for key in batch.keys] for rank in ranks]
        assert sorted(found[0] + found[1]) == [f"u{i:03d}" for i in range(24)]
        assert found[0] == [key for batch in ranks[0].once() for key in batch.keys]

    def test_a_process_maps_the_table_that_another_one_has(self, corpus):
        other = pickle.loads(pickle.dumps(stream(corpus)))
        assert isinstance(other.transcripts.table, np.memmap)
        assert contents(next(iter(other))) == contents(next(iter(stream(corpus))))


class TestTranscripts:
    def test_texts_are_read_once(self, folder, corpus, monkeypatch):
        monkeypatch.setattr(Tokens, "read", lambda *_: pytest.fail("read again"))
        again = transcripts(folder)
        assert np.array_equal(again.table, corpus.table)
        assert again.identity == corpus.identity

    @pytest.mark.slow
    def test_processes_change_nothing(self, folder, corpus, tmp_path):
        tokens = Tokens(folder, n_quantizers=1)
        other = Transcripts(tokens, ByteText(), text_field="text", cache=tmp_path, processes=2)
        assert np.array_equal(other.table, corpus.table)

    def test_the_expected_length_is_that_of_the_corpus(self, corpus):
        assert corpus.expected_codes() == (pytest.approx(5.0), pytest.approx(2.0))

    @pytest.mark.parametrize("codes", [[8] * 6, [30, 20, 10, 30, 20, 10]], ids=["equal", "falling"])
    def test_a_line_that_makes_no_sense_is_replaced_by_the_mean(self, tmp_path, codes):
        items = {
            f"u{i}": (np.zeros((3, n)), {"text": "ab" if len(set(codes)) == 1 else "a" * (i + 1)})
            for i, n in enumerate(codes)
        }
        write_tokens(tmp_path, "a", items)
        start, slope = transcripts(tmp_path).expected_codes()
        assert start == 0
        assert slope > 0

    def test_what_cannot_be_used_is_left_out_and_named(self, tmp_path):
        items = spoken_items(range(8))
        for key, metadata in {"u001": {}, "u002": {"text": " "}, "u003": {"text": 7}}.items():
            items[key] = items[key][0], metadata
        items["u004"] = items["u004"][0][:, :0], items["u004"][1]
        items["u005"] = np.zeros((3, 300), int), items["u005"][1]  # longer than a sequence may be
        write_tokens(tmp_path, "a", items)
        corpus = transcripts(tmp_path)
        assert {(s.key, s.reason) for s in corpus.skipped()} == {
            ("u001", "no text"), ("u002", "no text"), ("u003", "no text"), ("u004", "no codes"),
        }  # fmt: skip
        assert corpus.reasons() == {"no text": 3, "no codes": 1, "text that the front end does not know": 0}
        of_stream = stream(corpus)
        assert of_stream.epoch_size == 3
        assert {key for batch in islice(of_stream, 9) for key in batch.keys} == {"u000", "u006", "u007"}

    def test_nobody_speaks_for_an_unknown_speaker(self, tmp_path):
        write_tokens(tmp_path, "a", {k: (c, {"text": m["text"]}) for k, (c, m) in spoken_items(range(6)).items()})
        of_stream = stream(transcripts(tmp_path), voice_share=1.0)
        assert not any(of_stream.voice(position) for position in range(30))

    def test_nothing_to_use_is_an_error(self, tmp_path):
        write_tokens(tmp_path, "a", {"u": (np.zeros((3, 9)), {})})
        with pytest.raises(ValueError, match=r"can be used: .*'no text': 1"):
            stream(transcripts(tmp_path))

    def test_another_front_end_reads_the_texts_again(self, folder, corpus):
        from esdcodec.model_tts.text import PhonemeText

        pytest.importorskip("phonemizer")
        other = Transcripts(corpus.tokens, PhonemeText("en-us"), text_field="text", cache=folder / "cache")
        assert other.identity != corpus.identity
        assert not np.array_equal(other.table["n_text"], corpus.table["n_text"])
