"""Measures as pages that open offline: tables, figures, structures."""
