"""The parts of an exported TensorFlow graph that replace Python: decoding, cleaning, checks, batching."""
