"""`python -m dragon`: the same as the `dragon` command."""

from dragon.cli import main

main()
