"""``python -m escalon``."""

import sys

from escalon.cli import main

sys.exit(main())
