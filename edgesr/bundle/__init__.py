"""Bundles: what `export` writes, a board runs, and `verify` checks.

`manifest`, `gates`, `golden`, `verify` and `wire` travel inside every bundle, verbatim, and keep to
Python 3.8 and numpy; the other modules are needed only where bundles are made.
"""
