"""Studies of a fit, read and prepared once."""
