"""Plan of a comparison: its splits, sizes, variants and tasks."""
