"""Turn reports into words, and words into ids and vectors."""
