"""Files of weights of other programs: what is read of them, and what is refused."""
