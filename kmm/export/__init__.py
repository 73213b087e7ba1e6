"""Export of a classifier, with its explanations, as a SavedModel for TensorFlow Serving."""
