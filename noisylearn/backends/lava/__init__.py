"""Lava: the same rules executed as Lava processes. Imports Lava itself only when something is to run."""
