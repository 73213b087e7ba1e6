"""The fusion `cross-attention`: its shape, its rows, its network."""
