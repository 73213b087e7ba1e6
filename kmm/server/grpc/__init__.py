"""The gRPC side of the server."""
