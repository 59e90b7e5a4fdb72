"""Hear the codec: `python infer.py [FILE|FOLDER|LIST.lst …] [--model …] [--n-quantizers 3] [--device …] [--output …]`.

Without files it takes a bundled recording. `python infer.py --help` says the rest.
"""

import sys

from esdcodec.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["roundtrip", *sys.argv[1:]]))
