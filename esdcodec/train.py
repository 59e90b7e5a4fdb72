"""`accelerate launch -m esdcodec.train`: what `esdcodec train` is in one process, in as many as there are GPUs."""

import sys

from .cli.train import main

if __name__ == "__main__":
    sys.exit(main())
