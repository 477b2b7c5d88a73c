"""Run the command line with ``python -m obelisk``."""

from obelisk.cli.main import run

run()
