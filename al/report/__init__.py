"""A run, as its folder holds it, to the plain sections that ``trajgen.analysis.report`` renders."""
