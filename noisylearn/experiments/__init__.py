"""Experiments: configuration and recipes, training, run files, comparison."""
