"""``python -m fastlung``, the same as ``fastlung``."""

import sys

from fastlung.cli import main

if __name__ == "__main__":
    sys.exit(main())
