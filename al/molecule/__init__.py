"""All-atom molecules: from a sequence or a PDB file to an OpenMM system that moves."""
