"""The background side: claims jobs, runs their stages, proves what it did."""
