"""A corpus of twelve utterances in four shards."""

import pytest

from esdcodec.dataset.make_shards import write_shards
from esdcodec.dataset.shards import list_shards
from tests.corpora import utterance


@pytest.fixture
def corpus(tmp_path):
    write_shards([utterance(i) for i in range(12)], tmp_path, per_shard=3)
    return tmp_path / "shard.list"


@pytest.fixture
def streamed(corpus):
    """The same corpus through a pipe."""
    return [f"pipe:cat {shard}" for shard in list_shards(corpus)]
