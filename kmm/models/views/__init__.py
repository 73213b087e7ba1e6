"""Views of a model: its nested parts, models that start from features, cuts behind the stem."""
