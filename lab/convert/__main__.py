"""``python -m lab.convert``."""

import sys

from lab import cli
from lab.convert import main

if __name__ == "__main__":
    sys.exit(cli.run(main))
