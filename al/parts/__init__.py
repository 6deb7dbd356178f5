"""The ports of the loop, implemented with the rooms of this project."""
