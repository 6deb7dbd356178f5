"""Which candidate frames are worth an oracle query."""
