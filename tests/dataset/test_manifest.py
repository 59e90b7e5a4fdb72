"""The index of a corpus: made once, brought up to date, shared, and never trusted where it is damaged."""

import os
import pickle
import threading

import numpy as np
import pytest
from safetensors import safe_open

from esdcodec.cli.main import main
from esdcodec.dataset import index
from esdcodec.dataset.corpus import Corpus
from esdcodec.dataset.filters import Filters
from esdcodec.dataset.index import check_current, find_manifest, index_corpus, manifest_paths
from esdcodec.dataset.loader import Loaders, Source
from esdcodec.dataset.make_shards import write_shards
from esdcodec.dataset.manifest import Manifest, ManifestError
from esdcodec.dataset.open_files import OpenFiles
from esdcodec.dataset.scan import scan_shard
from esdcodec.dataset.shards import list_shards
from tests.corpora import add, broken_members, utterance


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "data"
    write_shards([utterance(i, 0.05) for i in range(6)], folder, per_shard=2)
    return folder


@pytest.fixture
def shards(folder):
    return list_shards(folder)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def scanned(monkeypatch):
    """The shards that were read through."""
    read = []

    def counting(shard, items):
        read.append(os.path.basename(shard))
        return scan_shard(shard, items)

    monkeypatch.setattr(index, "scan_shard", counting)
    return read


def keys(manifest, shards) -> list[str]:
    corpus = Corpus(manifest, shards, Filters())
    return [corpus.key(corpus.find(s, i).row) for s, n in enumerate(corpus.counts) for i in range(n)]


KEYS = [f"u{i:03d}" for i in range(6)]


def test_it_has_what_the_shards_have(shards):
    manifest = index_corpus(shards)
    assert manifest.shards == shards
    for row, shard in enumerate(shards):
        entries, scan = manifest.entries(row), scan_shard(shard)
        assert list(entries.keys) == list(scan.keys)
        for name, column in scan.columns.items():
            assert np.array_equal(entries.columns[name], column), name
        assert (entries.path, entries.size, entries.modified, entries.languages) == (
            shard, scan.size, scan.modified, scan.languages,
        )  # fmt: skip


def test_broken_entries_are_kept(tmp_path):
    members, _ = broken_members()
    (tmp_path / "b.tar").write_bytes(b"")
    shards = [str(add(tmp_path / "a.tar", members)), str(tmp_path / "b.tar"), str(tmp_path / "gone.tar")]
    manifest = index_corpus(shards)
    for row, shard in enumerate(shards):
        scan = scan_shard(shard)
        assert manifest.broken(row) == list(zip(scan.broken_keys, scan.broken_reasons))
    assert Corpus(manifest, shards, Filters()).unreadable == 2


def test_anybody_can_read_the_file(shards):
    path = index_corpus(shards).path
    with safe_open(path, "np") as stored:
        assert stored.get_tensor("duration").tolist() == pytest.approx([0.05] * 6)
        assert bytes(stored.get_tensor("key.data")).decode() == "".join(KEYS)
        assert stored.metadata()["languages"] == '["en"]'


class TestMadeOnce:
    def test_shards_are_read_once(self, shards, scanned):
        assert index_corpus(shards).identity == index_corpus(shards).identity
        assert len(scanned) == 3

    def test_only_what_changed_is_read_again(self, shards, folder, scanned):
        index_corpus(shards)
        scanned.clear()
        os.utime(shards[1], ns=(1, 1))
        new = write_shards([utterance(9, 0.05)], folder, existing="append")
        manifest = index_corpus([*shards, str(new[0])])
        assert sorted(scanned) == ["shard-000001.tar", "shard-000003.tar"]
        assert keys(manifest, [*shards, str(new[0])]) == [*KEYS, "u009"]

    def test_a_part_of_the_shards_needs_no_index_of_its_own(self, shards, scanned):
        whole = index_corpus(shards)
        assert index_corpus(shards[2:]).identity == whole.identity
        assert keys(whole, shards[2:]) == KEYS[4:]
        index_corpus(shards[:1])
        assert len(scanned) == 3

    def test_others_of_the_folder_stay_in_it(self, shards, scanned):
        index_corpus(shards[:1])
        index_corpus(shards[1:])
        index_corpus(shards)
        assert len(scanned) == 3

    @pytest.mark.parametrize("damage", [b"", b"{", b"\xff" * 100, lambda whole: whole[:-8], lambda whole: whole + b"x"])
    def test_a_damaged_one_is_made_again(self, shards, scanned, damage):
        path = index_corpus(shards).path
        path.write_bytes(damage(path.read_bytes()) if callable(damage) else damage)
        with pytest.raises(ManifestError, match="make it again"):
            Manifest(path)
        assert keys(index_corpus(shards), shards) == KEYS
        assert len(scanned) == 6

    def test_an_index_that_is_interrupted_keeps_what_it_has(self, shards, scanned):
        def stop(done, total, utterances):
            if done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            index_corpus(shards, progress=stop)
        index_corpus(shards)
        assert scanned == [os.path.basename(shard) for shard in shards]

    def test_progress(self, shards):
        told = []
        index_corpus(shards, progress=lambda *numbers: told.append(numbers))
        assert told == [(1, 3, 2), (2, 3, 4), (3, 3, 6)]

    def test_several_processes(self, shards, monkeypatch):
        monkeypatch.setattr(index, "PER_PROCESS", 1)
        assert keys(index_corpus(shards, processes=2), shards) == KEYS


class TestWhereItIs:
    def test_with_the_shards(self, shards, folder):
        assert index_corpus(shards).path == folder / "corpus.manifest" == find_manifest(shards).path

    def test_in_the_cache_where_that_folder_is_not_to_be_written(self, shards, folder, home, scanned):
        (folder / "corpus.manifest").mkdir()  # nothing can be written there, by root neither
        assert home in index_corpus(shards).path.parents
        assert find_manifest(shards).identity == index_corpus(shards).identity
        assert len(scanned) == 3

    def test_in_the_systems_folder_where_the_cache_is_not_either(self, shards, folder, home, tmp_path, monkeypatch):
        monkeypatch.setattr(index.tempfile, "gettempdir", lambda: str(tmp_path / "system"))
        (folder / "corpus.manifest").mkdir()
        home.write_text("no folder")
        assert tmp_path / "system" in index_corpus(shards).path.parents

    def test_nowhere_is_an_error_that_says_what_to_do(self, shards, folder, home, tmp_path, monkeypatch):
        monkeypatch.setattr(index.tempfile, "gettempdir", lambda: str(home / "system"))
        (folder / "corpus.manifest").mkdir()
        home.write_text("no folder")
        with pytest.raises(OSError, match=r"esdcodec index SHARDS -o FOLDER`, and set data\.manifests=FOLDER"):
            index_corpus(shards)

    def test_shards_of_several_folders_do_not_litter_what_is_above_them(self, tmp_path):
        places = manifest_paths([str(tmp_path / "a/1.tar"), str(tmp_path / "b/1.tar")])
        assert all(tmp_path not in place.parents or tmp_path / "home" in place.parents for place in places)

    def test_a_newer_one_in_the_cache_is_preferred_to_one_that_is_not_to_be_written(self, shards, folder, home):
        old = index_corpus(shards)
        os.utime(old.path, ns=(1, 1))
        os.utime(shards[0], ns=(1, 1))
        blocked = folder / "corpus.manifest"
        new = index_corpus(shards, output=manifest_paths(shards)[1])
        assert blocked.exists()
        assert find_manifest(shards).identity == new.identity

    def test_one_that_is_named_goes_with_its_shards(self, shards, folder, tmp_path):
        index_corpus(shards, output=folder / "mine.manifest")
        folder.rename(tmp_path / "moved")
        moved = list_shards(tmp_path / "moved/mine.manifest")
        assert moved == [shard.replace("data", "moved") for shard in shards]
        assert keys(Manifest(tmp_path / "moved/mine.manifest"), moved) == KEYS

    def test_one_that_is_named_is_refused_when_its_shards_change(self, shards, folder):
        manifest = index_corpus(shards, output=folder / "mine.manifest")
        check_current(manifest)
        os.utime(shards[1], ns=(1, 1))
        with pytest.raises(ValueError, match=r"1 of 3 shards have changed .*shard-000001\.tar.*esdcodec index"):
            check_current(manifest)


class TestShared:
    def test_a_worker_opens_the_same_file(self, shards):
        corpus = Corpus(index_corpus(shards), shards, Filters())
        copy = pickle.dumps(corpus)
        assert len(copy) < 4000  # no column is sent
        again = pickle.loads(copy)
        assert keys(again.manifest, shards) == KEYS
        assert again.find(1, 1) == corpus.find(1, 1)

    def test_it_is_told_when_it_was_made_again_meanwhile(self, shards):
        copy = pickle.dumps(index_corpus(shards))
        os.utime(shards[0], ns=(1, 1))
        index_corpus(shards)
        with pytest.raises(ManifestError, match="start again"):
            pickle.loads(copy)

    def test_the_digest_tells_other_shards_and_other_filters(self, shards):
        manifest = index_corpus(shards)
        digests = {
            Corpus(manifest, chosen, filters, per_utterance=n).digest()
            for chosen in (shards, shards[1:])
            for filters in (Filters(), Filters(min_dnsmos=2.3))
            for n in (1, 2)
        }
        assert len(digests) == 8
        assert Corpus(Manifest(manifest.path), shards, Filters()).digest() in digests


class Ranks:
    """Processes of several machines, as threads."""

    def __init__(self, n: int, per_machine: int) -> None:
        self.n, self.per_machine = n, per_machine
        self.barrier = threading.Barrier(n)
        self.said = [None] * n

    def validate(self, source, cache) -> tuple[list[str], list[Exception]]:
        """The keys that they read, and what they raise."""
        keys, errors = [], []

        def read(rank: int) -> None:
            def gather(values: list) -> list:
                self.said[rank] = values
                self.barrier.wait()
                return [value for values in self.said for value in values]

            loaders = Loaders(
                Filters(), sample_rate=24000, batch_size=1, num_workers=0, max_broken_share=0.5, rank=rank,
                n_ranks=self.n, local_rank=rank % self.per_machine, barrier=self.barrier.wait, gather=gather,
                cache=cache(rank) if callable(cache) else cache,
            )  # fmt: skip
            try:
                loader = loaders.validation(
                    Source.parse(source(rank) if callable(source) else source), segment_length=240
                )
                keys.extend(key for batch in loader for key in batch.keys)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=read, args=(rank,)) for rank in range(self.n)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(keys), errors


class TestRanks:
    @pytest.fixture
    def read_only(self, folder, home):
        """Nothing can be written beside the shards, nor in the user's cache."""
        (folder / "corpus.manifest").mkdir()
        home.write_text("no folder")

    def test_one_of_them_reads_the_shards_for_all(self, shards, tmp_path, scanned, read_only):
        assert Ranks(4, per_machine=2).validate(shards, tmp_path / "run") == (KEYS, [])
        assert sorted(scanned) == sorted(map(os.path.basename, shards))
        assert Ranks(3, per_machine=1).validate(shards, tmp_path / "run") == (KEYS, [])
        assert len(scanned) == 3

    def test_a_machine_that_does_not_see_what_was_written_reads_them_once_more(
        self, shards, tmp_path, scanned, read_only
    ):
        assert Ranks(4, per_machine=2).validate(shards, lambda rank: tmp_path / f"machine{rank // 2}") == (KEYS, [])
        assert len(scanned) == 2 * len(shards)

    def test_ranks_that_see_other_shards_say_so_all(self, shards, tmp_path):
        _, errors = Ranks(2, per_machine=1).validate(lambda rank: shards[rank:], tmp_path)
        assert len(errors) == 2
        assert all("ranks 1 see other shards than rank 0" in str(error) for error in errors)

    def test_a_manifest_names_its_shards(self, shards, folder, tmp_path, scanned):
        path = index_corpus(shards, output=folder / "mine.manifest").path
        scanned.clear()
        assert Ranks(2, per_machine=2).validate(str(path), None) == (KEYS, [])
        assert not scanned
        assert not (folder / "corpus.manifest").exists()


class TestCommand:
    @pytest.mark.parametrize("output", ["index", "mine.manifest"])
    def test_made_beforehand_it_is_all_that_a_training_reads(self, shards, tmp_path, scanned, capsys, output):
        assert main(["index", *shards, "-o", str(tmp_path / output), "-j", "1"]) == 0
        assert "6 utterances, 0.0 hours, in 3 shards" in capsys.readouterr().out
        scanned.clear()
        named = str(tmp_path / output) if output.endswith("manifest") else shards
        assert Ranks(2, per_machine=1).validate(named, tmp_path / output) == (KEYS, [])
        assert not scanned

    def test_it_says_what_is_broken(self, shards, tmp_path, capsys):
        (tmp_path / "empty.tar").write_bytes(b"")
        assert main(["index", *shards, str(tmp_path / "empty.tar"), "-o", str(tmp_path / "index"), "-j", "1"]) == 1
        assert "broken: 1 × tar is damaged (file of zero bytes), as all in" in capsys.readouterr().out
        assert main(["index", "pipe:cat a.tar"]) == 2
        assert "only plain tars on a disk have an index" in capsys.readouterr().err


def test_a_shard_that_changed_is_no_longer_read(shards):
    corpus = Corpus(index_corpus(shards), shards, Filters())
    files = OpenFiles()
    os.utime(shards[0], ns=(1, 1))
    for segment, works in ((corpus.find(0, 0), False), (corpus.find(1, 0), True)):
        size, modified = segment.version

        def read(segment=segment, size=size, modified=modified):
            return files.read(segment.shard, segment.offset, segment.size, file_size=size, modified=modified)

        if works:
            assert read()[:4] == b"fLaC"
        else:
            with pytest.raises(OSError, match="it has changed since it was indexed"):
                read()
