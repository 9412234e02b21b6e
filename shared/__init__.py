"""What the functions, the worker and the command line have in common."""
