"""Tables of encoders and fusions, and the function that builds a model from their entries."""
