"""One manifest of a corpus, made once and shared."""

import os
import pickle
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esdcodec.cli.main import main
from esdcodec.dataset import index, manifest
from esdcodec.dataset.corpus import Corpus
from esdcodec.dataset.filters import Filters, Metadata
from esdcodec.dataset.index import shard_index
from esdcodec.dataset.loader import Reader
from esdcodec.dataset.make_shards import write_shards
from esdcodec.dataset.manifest import Manifest, manifest_folder, write_manifest
from tests.corpora import utterance


@pytest.fixture
def shards(tmp_path):
    return [str(s) for s in write_shards([utterance(i, 0.1 + i / 10) for i in range(7)], tmp_path / "s", per_shard=3)]


@pytest.fixture
def made(shards, tmp_path):
    folder = manifest_folder(shards, tmp_path / "cache")
    write_manifest(shards, folder)
    return Manifest(folder)


@pytest.fixture
def builds(monkeypatch):
    built = []
    build = index.build
    monkeypatch.setattr(index, "build", lambda shard: built.append(shard.name) or build(shard))
    return built


@pytest.fixture
def read_only(shards, tmp_path, monkeypatch):
    """Nothing can be written beside the shards, nor in the user's cache."""
    for shard in shards:
        Path(f"{shard}.index").unlink(missing_ok=True)
        Path(f"{shard}.index").mkdir()
    (tmp_path / "home").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))


def test_it_says_what_the_indices_say(made, shards):
    assert len(made) == 7
    i = 0
    for number, shard in enumerate(shards):
        found = shard_index(shard)
        for key, offset, size, duration in zip(found.keys, found.offsets, found.sizes, found.durations):
            entry = made[i]
            assert (entry.shard, entry.key, entry.offset, entry.size) == (number, key, offset, size)
            assert made.column("durations")[i] == duration
            i += 1
    assert made.languages[made.column("languages")[0]] == "en"


def test_processes_share_its_columns(made):
    content = pickle.dumps(made)
    assert len(content) < 1000
    again = pickle.loads(content)
    assert again[6] == made[6]
    assert isinstance(again.column("offsets"), np.memmap)


def test_it_is_of_the_shards_as_they_are(made, shards, tmp_path):
    assert manifest_folder(shards, tmp_path / "cache") == made.folder
    assert manifest_folder(shards[::-1], tmp_path / "cache") != made.folder
    os.utime(shards[0], ns=(1, 1))
    assert manifest_folder(shards, tmp_path / "cache") != made.folder


def test_broken_utterances_are_in_it(tmp_path):
    shards = write_shards([utterance(0)], tmp_path)
    (tmp_path / "empty.tar").write_bytes(b"")
    paths = [str(shards[0]), str(tmp_path / "empty.tar")]
    write_manifest(paths, tmp_path / "m")
    corpus = Corpus(Manifest(tmp_path / "m"), Filters())
    assert corpus.unreadable == 1
    assert [skip.shard for skip in corpus.broken] == [paths[1]]


def validate_on(n_ranks, shards, cache):
    """Readers of all ranks at once; the keys that each gets."""
    barrier = threading.Barrier(n_ranks)
    found = [[] for _ in range(n_ranks)]

    def read(rank):
        reader = Reader(
            Filters(), sample_rate=24000, batch_size=1, num_workers=0, max_broken_share=0.5, rank=rank,
            n_ranks=n_ranks, barrier=barrier.wait, cache=cache,
        )  # fmt: skip
        found[rank] += [key for batch in reader.validation(shards, segment_length=2400) for key in batch.keys]

    threads = [threading.Thread(target=read, args=(rank,)) for rank in range(n_ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_of_shards_that_are_read_only_each_is_indexed_by_one_rank_once(shards, tmp_path, builds, read_only):
    found = validate_on(2, shards, tmp_path / "run")
    assert sorted(key for keys in found for key in keys) == [f"u{i:03d}" for i in range(7)]
    assert sorted(builds) == sorted(Path(shard).name for shard in shards)
    for cached in (tmp_path / "run").glob("*.index"):
        cached.unlink()
    validate_on(3, shards, tmp_path / "run")  # goes on from the manifest alone
    assert len(builds) == len(shards)


def test_made_beforehand_it_is_all_that_a_training_reads(shards, tmp_path, builds, capsys):
    assert main(["index", *shards, "-o", str(tmp_path / "index"), "-j", "1"]) == 0
    assert "7 utterances, 0.0 hours, in 3 shards" in capsys.readouterr().out
    assert len(builds) == 3
    for shard in shards:
        Path(f"{shard}.index").unlink()
    validate_on(2, shards, tmp_path / "index")
    assert len(builds) == 3


def test_the_command_says_what_is_broken(shards, tmp_path, capsys):
    (tmp_path / "empty.tar").write_bytes(b"")
    assert main(["index", *shards, str(tmp_path / "empty.tar"), "-o", str(tmp_path / "index"), "-j", "1"]) == 1
    assert "broken: 1 × tar is damaged (file of zero bytes), as all in" in capsys.readouterr().out
    assert main(["index", "pipe:cat a.tar"]) == 2
    assert "only plain tars on a disk have an index" in capsys.readouterr().err


def test_a_half_written_one_is_none(shards, tmp_path, monkeypatch):
    folder = manifest_folder(shards, tmp_path)
    monkeypatch.setattr(manifest.json, "dumps", lambda content: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_manifest(shards, folder)
    assert not list(tmp_path.glob("*manifest*"))


def test_two_that_write_it_at_once_write_the_same(made, shards, tmp_path):
    write_manifest(shards, made.folder)
    assert Manifest(made.folder)[3] == made[3]
    assert [path.name for path in made.folder.parent.iterdir()] == [made.folder.name]


@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(0, 5), st.sampled_from(["en", "de", "xx"])), max_size=20),
    st.floats(0, 20), st.floats(5, 30), st.none() | st.floats(0, 5), st.none() | st.just(("EN", "xx")),
)  # fmt: skip
def test_many_are_filtered_as_one_is(rows, shortest, longest, dnsmos, languages):
    filters = Filters(shortest, longest, dnsmos, languages)
    names = ["de", "en", "xx"]
    columns = [np.array([row[i] for row in rows], float) for i in range(2)]
    wanted, dropped = filters.select(*columns, np.array([names.index(row[2]) for row in rows], np.uint16), names)
    reasons = [filters.rejects(Metadata(*row)) for row in rows]
    assert wanted.tolist() == [reason is None for reason in reasons]
    assert dropped == {reason: reasons.count(reason) for reason in set(reasons) - {None}}


@pytest.mark.parametrize(("per_utterance", "first", "last"), [(1, "u000", "u006"), (3, "u000", "u006")])
def test_segments_lead_to_their_utterances(made, per_utterance, first, last):
    corpus = Corpus(made, Filters(), per_utterance=per_utterance)
    assert corpus.size == 7 * per_utterance
    assert corpus.find(0).key == first
    assert corpus.find(corpus.size - 1).key == last


def test_as_many_segments_as_an_utterance_is_long(made):
    corpus = Corpus(made, Filters(min_duration=0.35), per_utterance=None, segment_seconds=0.2)
    numbers = [Metadata(0.1 + i / 10, 0, "en").n_segments(None, 0.2) for i in range(3, 7)]
    expected = [f"u00{i}" for i, n in enumerate(numbers, 3) for _ in range(n)]
    assert [corpus.find(i).key for i in range(corpus.size)] == expected
    assert corpus.dropped == {"shorter than 0.35 s": 3}


def test_a_shard_that_changed_is_no_longer_read(made, shards):
    corpus = Corpus(made, Filters())
    shutil.copy(shards[1], shards[0])
    with pytest.raises(OSError, match="it has changed since the run began"):
        corpus.read(corpus.find(0))
    assert corpus.read(corpus.find(3))[:4] == b"fLaC"
