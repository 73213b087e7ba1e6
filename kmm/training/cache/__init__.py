"""Cache that runs share: prepared films, features, compiled steps."""
