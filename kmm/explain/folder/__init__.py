"""Explaining folders of studies: batches, worker processes, resuming."""
