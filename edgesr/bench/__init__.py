"""`bench`: student against teacher on this machine, interleaved in one run."""
