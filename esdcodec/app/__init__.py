"""A page to hear the codec (`pip install "esdcodec[demo]"`, `esdcodec demo` or `python -m esdcodec.app`).

`compare` codes a recording with several numbers of codebooks, `page` shows them beside each other.
"""
