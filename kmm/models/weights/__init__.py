"""Weights from elsewhere: files, other frameworks, digests."""
