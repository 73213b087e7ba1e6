"""kmm: classifiers on chest films and their reports, with the places and words that carried each decision."""

__version__ = "0.1.0"
