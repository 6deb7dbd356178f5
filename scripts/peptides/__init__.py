"""The parts of ``accuracy_peptides.py``: sets of frames, and how each task is judged."""
