"""One task of a comparison: the fit of one variant on one split, and what is measured on it."""
