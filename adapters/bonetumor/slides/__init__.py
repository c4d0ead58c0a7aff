"""Reading slide pictures and whole slides."""
