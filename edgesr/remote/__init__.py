"""A bundle onto a board over the user's own OpenSSH: copied, built, verified, reported.

`deploy` does it; `ssh` runs commands there, `agent` is the program that it runs, `send` what
travels. Nothing is installed on the board and nothing needs root.
"""
