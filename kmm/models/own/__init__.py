"""Encoders made of Keras models of the user's own."""
