"""`python -m harness` is `assay-runner`."""

import sys

from harness.cli import main

if __name__ == "__main__":
    sys.exit(main())
