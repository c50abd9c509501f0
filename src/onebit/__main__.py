"""`python -m onebit` is the command `onebit`."""

import sys

from onebit.cli import main

sys.exit(main())
