"""Pictures of runs and devices."""
