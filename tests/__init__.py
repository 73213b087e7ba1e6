"""A package, so that the `tests` which some wheels carry does not come first."""
