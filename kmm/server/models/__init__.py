"""The models that a server holds: their versions, loading, warm-up and running."""
