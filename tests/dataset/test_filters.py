"""What metadata say, however odd, and which utterances are wanted."""

import numpy as np
import pytest

from esdcodec.dataset.filters import Filters, n_segments
from esdcodec.dataset.metadata import Metadata, MetadataError


@pytest.mark.parametrize(
    "content",
    [
        b'{"duration": NaN}', b'{"duration": Infinity}', b'{"duration": -Infinity}', b'{"duration": -1}',
        b'{"duration": 1e9}', b'{"duration": 1e400}', b'{"duration": 1%s}' % (b"0" * 400), b'{"duration": "long"}',
        b'{"duration": null}', b'{"duration": [1]}', b'{"duration": 1, "dnsmos": "good"}', b'{"dnsmos": 3}',
        b"[" * 100_000, b'{"a":' * 100_000, b"[]", b"3", b"null", b'"duration"', b"\xff\xfe", b"", None,
    ],
    ids=lambda content: repr(content)[:24],
)  # fmt: skip
def test_what_says_no_length_is_broken_never_a_crash(content):
    with pytest.raises(MetadataError):
        Metadata.parse(content)


@pytest.mark.parametrize("rating", [b"NaN", b"Infinity", b"-Infinity", b"null", b"0"])
def test_a_rating_that_is_no_number_is_none(rating):
    metadata = Metadata.parse(b'{"duration": 2.5, "dnsmos": %s}' % rating)
    assert metadata == Metadata(2.5, 0.0, "unknown")
    assert Filters(min_dnsmos=3.0).rejects(metadata) == "dnsmos below 3"
    assert Filters().rejects(metadata) is None


@pytest.mark.parametrize(("written", "wanted"), [("EN", "en"), ("en", "EN"), ("En", "eN"), (" en ", "en")])
def test_a_language_is_the_same_in_any_case(written, wanted):
    metadata = Metadata.parse(b'{"duration": 1, "language": "%s"}' % written.encode())
    assert Filters(languages=(wanted,)).rejects(metadata) is None
    assert Filters(languages=("de",)).rejects(metadata) == "language not in de"


def test_an_utterance_counts_as_many_segments_as_can_be():
    duration = Metadata.parse(b'{"duration": 86400}').duration
    assert n_segments(np.array([duration]), None, 3.2) == 27_000


def test_columns_are_filtered_as_single_utterances_are():
    duration, dnsmos, language = np.float32([1.1, 3, 9, 3]), np.float32([3.3, 3.3, 3.3, 0]), np.array([0, 1, 0, 0])
    filters = Filters(min_duration=1.1, max_duration=5, min_dnsmos=3.3, languages=("en",))  # no float32 is 1.1 or 3.3
    codes = filters.rejections(duration, dnsmos, language, ["en", "de"])
    assert codes.tolist() == [0, 4, 2, 3]
    for i, code in enumerate(codes):
        metadata = Metadata(float(duration[i]), float(dnsmos[i]), ["en", "de"][language[i]])
        assert filters.rejects(metadata) == (filters.reasons[code - 1] if code else None)
