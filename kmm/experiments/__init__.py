"""Comparison of models over splits and settings."""
