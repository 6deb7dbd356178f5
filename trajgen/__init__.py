"""trajgen: a coarse-grained surrogate of all-atom molecular dynamics that improves itself."""

__version__ = "0.1.0"
