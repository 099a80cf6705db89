"""`python -m calmkit` is the command `calmkit`."""

from calmkit.cli.main import main

main()
