"""Encoders and fusions as tables, and the one function that builds a model from them."""
