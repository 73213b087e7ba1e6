"""Fidelity of explanations: localisation, deletion and insertion, randomised weights, choice of the sensitivity."""
