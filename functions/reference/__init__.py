"""The pages of reference in docs/, made of the code: `python -m functions.reference` writes them anew."""
