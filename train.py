"""Train: `python train.py` or `accelerate launch train.py`, then `--config-name=… [group.key=value …]`.

It is what an installed package has as `esdcodec train` and `accelerate launch -m esdcodec.train`.
"""

import sys

from esdcodec.cli.train import main

if __name__ == "__main__":
    sys.exit(main())
