"""Load, warm up, run and unload the versions of models."""
