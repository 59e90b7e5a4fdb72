"""`python -m esdcodec.app`: the same as `esdcodec demo`."""

import sys
from importlib import import_module

if __name__ == "__main__":
    main = import_module("esdcodec.cli.main").main  # the command line stands above this package
    sys.exit(main(["demo", *sys.argv[1:]]))
