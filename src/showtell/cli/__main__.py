"""`python -m showtell.cli`: the same as the `showtell` command."""

import sys

from showtell.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
