"""Pictures, tables and pages of runs and devices."""
