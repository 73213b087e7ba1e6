"""Transformers: shape, frame of marks and places, masked attention, and the text encoder made of them."""
