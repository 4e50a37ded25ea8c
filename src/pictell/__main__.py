"""`python -m pictell` is `pictell`."""

import sys

from pictell.cli import main

if __name__ == "__main__":
    sys.exit(main())
