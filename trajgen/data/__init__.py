"""Records, topology, maps, readers, the append-only store, windows and splits."""
