"""Lava processes alone: Lava executes every file of this folder while it compiles."""
