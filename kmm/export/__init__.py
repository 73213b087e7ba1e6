"""A classifier as a SavedModel for TensorFlow Serving, explanations included."""
