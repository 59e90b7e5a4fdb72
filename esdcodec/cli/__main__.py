"""`python -m esdcodec.cli` is the command `esdcodec`."""

import sys

from .main import main

sys.exit(main())
