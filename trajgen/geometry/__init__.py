"""Geometry of points and rigid frames; stands on nothing of ours.

Everything works on torch tensors with any leading batch dimensions; numpy callers wrap their
arrays with ``torch.from_numpy``. Lengths are in nm, angles in radian.
"""
