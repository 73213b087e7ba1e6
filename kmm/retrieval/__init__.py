"""Studies most like a study: an index of features on disk, exact search in it, and measures of what it finds."""
