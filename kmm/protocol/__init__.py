"""The serving protocol that an export, a server and a client agree on: signatures, messages, tensors, addresses."""
