"""The second target: plain Pyro functions that need guidedsl neither at import nor at run time."""
