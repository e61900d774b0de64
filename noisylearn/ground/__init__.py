"""What everything stands on: errors, random streams, records, atomic writes."""
