"""Read studies from files: readers, label schemes, views, splits, checks and the built-in phantom set."""
