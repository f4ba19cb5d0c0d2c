"""python -m jaxseg COMMAND, the same program as jaxseg COMMAND."""

import sys

from jaxseg.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
