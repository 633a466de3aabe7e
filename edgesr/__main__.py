"""`python -m edgesr` is `edgesr`."""

from edgesr.cli.main import main

main()
