"""Results as pictures and pages that people look at."""
