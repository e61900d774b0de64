"""What carries a study out: its records, running and resuming, pages of results, pictures, pieces made of trainings."""
