"""Lava processes alone: Lava executes every file of this folder when it compiles a network."""
