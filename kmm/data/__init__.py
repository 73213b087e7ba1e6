"""Files to studies: the readers, label schemes, views, splits, checks and the built-in phantom set."""
