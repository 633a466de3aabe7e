"""Power: what this machine can measure of itself, and the arithmetic on it."""
