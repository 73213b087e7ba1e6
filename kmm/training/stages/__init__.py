"""Stages of training: what each does, and how it runs, is saved and resumed."""
