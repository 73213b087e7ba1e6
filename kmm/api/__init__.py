"""The front door of kmm in Python: what `import kmm` offers, above all other rooms except the command line."""
