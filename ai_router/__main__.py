"""`python -m ai_router` is `ai-router`."""

import sys

from ai_router.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
