"""Graph versions of kmm's Python code for an exported TensorFlow model: decoding, cleaning, checks, batching."""
