"""A tokenised corpus read back."""

import json
import pickle
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from esdcodec.dataset.token_shards import SUFFIXES
from esdcodec.dataset.tokens import Tokens, TokenStream
from esdcodec.infer.tokenise import TokeniseSettings, tokenise
from tests.corpora import add, audio
from tests.token_corpora import write_tokens

N_SHARDS, PER_SHARD = 5, 7


def codes_of(number: int, n: int = 3) -> np.ndarray:
    rng = np.random.default_rng(number)
    return rng.integers(0, 1024, (n, int(rng.integers(1, 40)))).astype(np.uint16)


def write(
    folder: Path, name: str, numbers: range, *, n: int = 3, fingerprint: str = "ab", format: str = "tar", **more: object
) -> Path:
    """A shard as `tokenise` writes it."""
    items = {f"u{i:03d}": (codes_of(i, n), {"speaker": "s", "text": f"text {i}", **more}) for i in numbers}
    return write_tokens(folder, name, items, n=n, fingerprint=fingerprint, format=format)


@pytest.fixture(params=SUFFIXES)
def format(request) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow")
    return request.param


@pytest.fixture
def folder(tmp_path, format) -> Path:
    for shard in range(N_SHARDS):
        write(tmp_path / "tokens", f"{shard:03d}", range(shard * PER_SHARD, (shard + 1) * PER_SHARD), format=format)
    return tmp_path / "tokens"


def keys(batches, n):
    return [[item["key"] for item in batch.items] for batch in islice(batches, n)]


def test_what_tokenise_wrote_is_read_back(model, codec, tmp_path, format):
    speech_folder = tmp_path / "speech"
    speech_folder.mkdir()
    for name in "abc":
        (speech_folder / f"{name}.wav").write_bytes(audio())
        (speech_folder / f"{name}.txt").write_text(f"text of {name}")
    settings = TokeniseSettings(model=model, device="cpu", group_size=2, format=format)
    tokenise([speech_folder], tmp_path / "tokens", settings)
    tokens = Tokens(tmp_path / "tokens")
    assert [item["key"] for item in tokens] == ["a", "b", "c"]
    assert [item["text"] for item in tokens] == [f"text of {name}" for name in "abc"]
    assert (tokens.fingerprint, tokens.n_quantizers) == (codec.fingerprint.hex(), codec.n_codebooks)
    for number, item in enumerate(tokens):
        assert item["codes"].shape == (codec.n_codebooks, item["frames"])
        assert tokens.length(number // 2, number % 2) == item["frames"]
        assert codec.decode(item["codes"][None], gain_db=item["gain_db"]).isfinite().all()


def test_an_item_is_its_codes_and_what_is_known_of_it(folder):
    tokens = Tokens(folder)
    assert len(tokens) == N_SHARDS * PER_SHARD
    for number in (0, 6, 7, 34):
        item = tokens[number]
        assert item["codes"].dtype == torch.int64
        assert np.array_equal(item["codes"], codes_of(number))
        assert (item["key"], item["text"], item["speaker"]) == (f"u{number:03d}", f"text {number}", "s")
    with pytest.raises(IndexError):
        tokens[35]


def test_all_formats_give_the_same_items_and_batches(tmp_path):
    pytest.importorskip("pyarrow")
    for format in SUFFIXES:
        for shard in range(N_SHARDS):
            numbers = range(shard * PER_SHARD, (shard + 1) * PER_SHARD)
            write(tmp_path / format, f"{shard:03d}", numbers, format=format)
    tar, *others = (Tokens(tmp_path / format) for format in SUFFIXES)
    batches = keys(TokenStream(tar, max_frames=60), 20)
    for tokens in others:
        assert keys(TokenStream(tokens, max_frames=60), 20) == batches
        for ours, theirs in zip(tokens, tar, strict=True):
            assert ours["codes"].equal(theirs["codes"])
            assert {**ours, "codes": 0} == {**theirs, "codes": 0}


def test_the_same_file_gives_many_utterances_of_parquet(tmp_path, monkeypatch):
    """Also where only one row group is kept, and one has few rows."""
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("esdcodec.infer.tokenise.writers.ROW_GROUP", 100)
    monkeypatch.setattr("esdcodec.dataset.token_reader.ROW_GROUPS", 1)
    write(tmp_path, "a", range(20), format="parquet")
    tokens = Tokens(tmp_path, n_quantizers=2)
    for number in [*range(20), 3, 17]:
        assert np.array_equal(tokens[number]["codes"], codes_of(number)[:2])
        assert tokens.length(0, number) == codes_of(number).shape[1]


@pytest.mark.parametrize("metadata", [{"duration": "long"}, {"duration": float("inf")}, {"language": 7}])
def test_odd_metadata_costs_no_utterance(tmp_path, metadata, format):
    write(tmp_path, "a", range(3), format=format, **metadata)
    assert len(Tokens(tmp_path)) == 3


def test_shards_are_opened_by_the_processes_that_read_them(folder):
    tokens = Tokens(folder)
    first = tokens[0]["codes"]
    assert pickle.loads(pickle.dumps(tokens))[0]["codes"].equal(first)
    assert len(pickle.dumps(tokens)) < 5000  # the index is mapped, not sent


class TestStream:
    def test_an_epoch_has_every_utterance_once_over_all_ranks(self, folder):
        tokens = Tokens(folder)
        seen = Counter()
        for rank in range(5):
            stream = TokenStream(tokens, batch_size=1, rank=rank, n_ranks=5)
            seen.update(key for (key,) in keys(stream, 7))
        assert seen == Counter(f"u{i:03d}" for i in range(35))

    def test_epochs_and_seeds_have_their_own_order(self, folder):
        tokens = Tokens(folder)
        first, second = keys(TokenStream(tokens, batch_size=35), 2)
        assert sorted(first) == sorted(second)
        assert first != second
        assert keys(TokenStream(tokens, batch_size=35, seed=1), 1) != [first]

    @pytest.mark.parametrize("limits", [{"batch_size": 3}, {"max_frames": 60}, {"max_frames": 90, "batch_size": 4}])
    def test_workers_change_nothing(self, folder, limits):
        stream = TokenStream(Tokens(folder), rank=1, n_ranks=2, **limits)
        alone = keys(stream, 9)
        assert keys(DataLoader(stream, batch_size=None, num_workers=2), 9) == alone

    @pytest.mark.parametrize("limits", [{"batch_size": 3}, {"max_frames": 60}])
    def test_a_run_that_goes_on_gets_what_it_would_have_got(self, folder, limits):
        """Also on another number of ranks, which then take the same batches in turns."""
        tokens = Tokens(folder)
        undisturbed = keys(TokenStream(tokens, **limits), 12)
        halves = [list(islice(TokenStream(tokens, rank=rank, n_ranks=2, **limits), 3)) for rank in range(2)]
        assert halves[0][-1].position == halves[1][-1].position
        before = [[item["key"] for item in batch.items] for step in zip(*halves) for batch in step]
        after = keys(TokenStream(tokens, position=halves[0][-1].position, **limits), 6)
        assert before + after == undisturbed

    def test_a_budget_of_frames_is_kept(self, folder):
        tokens = Tokens(folder)
        for batch in islice(TokenStream(tokens, max_frames=30), 30):
            frames = sum(item["codes"].shape[1] for item in batch.items)
            assert frames <= 30 or len(batch.items) == 1

    def test_what_a_model_is_trained_on_is_prepared_in_the_worker(self, folder):
        stream = TokenStream(Tokens(folder), batch_size=2, prepare=lambda item: item["codes"].numel())
        assert all(isinstance(n, int) for n in next(iter(stream)).items)

    @pytest.mark.parametrize("limits", [{}, {"batch_size": 0}, {"max_frames": 0}, {"batch_size": 1, "rank": 1}])
    def test_limits_that_make_no_batches_are_refused(self, folder, limits):
        with pytest.raises(ValueError, match=r"give one|numbered from 0"):
            TokenStream(Tokens(folder), **limits)


class TestRefused:
    def test_no_finished_shard(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="esdcodec tokenise"):
            Tokens(tmp_path)

    def test_different_weights(self, folder, format):
        write(folder, "other", range(40, 42), fingerprint="cd", format=format)
        with pytest.raises(ValueError, match=r"different weights.*ab.*cd"):
            Tokens(folder)

    def test_different_numbers_of_codebooks_unless_fewer_are_asked_for(self, folder, format):
        write(folder, "other", range(40, 42), n=2, format=format)
        with pytest.raises(ValueError, match="n_quantizers=2 reads all"):
            Tokens(folder)
        tokens = Tokens(folder, n_quantizers=2)
        assert {item["codes"].shape[0] for item in tokens} == {2}
        assert tokens.length(N_SHARDS, 1) == codes_of(41).shape[1]
        with pytest.raises(ValueError, match="1 to 2"):
            Tokens(folder, n_quantizers=3)

    def test_a_shard_that_is_not_what_its_manifest_says(self, folder):
        told = json.loads((folder / "001.manifest.json").read_text())
        (folder / "001.manifest.json").write_text(json.dumps(told | {"utterances": 8}))
        with pytest.raises(ValueError, match=r"001\.\w+ has 7 utterances.*--verify"):
            Tokens(folder)

    def test_a_shard_that_changed_under_the_reader(self, folder, format):
        tokens = Tokens(folder)
        write(folder, "001", range(20, 23), format=format)
        with pytest.raises(OSError, match="changed"):
            tokens[7]

    def test_metadata_of_packed_codes_that_changed_under_the_reader(self, tmp_path):
        write(tmp_path, "a", range(3), format="packed")
        tokens = Tokens(tmp_path)
        metadata = tmp_path / "a.jsonl"
        metadata.write_bytes(metadata.read_bytes().replace(b"u001", b"u005"))
        assert tokens[0]["key"] == "u000"
        with pytest.raises(OSError, match="changed"):
            tokens[1]

    def test_a_shard_of_an_unfinished_run_is_left_out(self, folder, caplog):
        write(folder, "other", range(40, 42))
        (folder / "other.manifest.json").unlink()
        assert len(Tokens(folder)) == 35
        add(folder / "audio.tar", {"a.wav": b"x", "a.json": b"{}"})
        assert len(Tokens(folder)) == 35
        assert caplog.text.count("1 files") == 2
