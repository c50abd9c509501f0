"""`python -m onebit` is the command `onebit`."""

import sys

from onebit.cli.main import main

sys.exit(main())
