"""`esdcodec.infer.bitstream` is the old name of `esdcodec.bitstream`."""

import pytest

from esdcodec import bitstream


@pytest.mark.parametrize("name", bitstream.__all__)
def test_every_public_name_is_found_under_the_old_one_with_a_warning(name):
    from esdcodec.infer import bitstream as old

    with pytest.warns(DeprecationWarning, match=f"{name} is now in esdcodec.bitstream"):
        assert getattr(old, name) is getattr(bitstream, name)


def test_what_was_never_there_is_not_found():
    from esdcodec.infer import bitstream as old

    with pytest.raises(AttributeError, match="nonsense"):
        _ = old.nonsense
