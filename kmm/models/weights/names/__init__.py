"""Names that other programs give the weights of a network, one file per network."""
