"""Serve TensorFlow Serving's gRPC services in one event loop."""
