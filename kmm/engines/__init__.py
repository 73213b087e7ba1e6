"""Engines that run jobs: this process, worker processes, actors of a Ray cluster."""
