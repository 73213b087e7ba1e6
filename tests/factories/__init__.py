"""Tiny inputs, and helpers that tests of more than one folder share.

A test module imports nothing from another test module or from a conftest. A helper of one folder lies beside its tests.
"""
