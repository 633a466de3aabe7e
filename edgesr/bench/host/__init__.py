"""`bench --host`: the networks of a bundle, measured on the board that they were exported for.

`client` drives it from here; `program` runs there, packed by `pack` into one file with the
modules that it needs; `networks` and `memory` are its parts; `record` makes the report's record
of what came back.
"""
