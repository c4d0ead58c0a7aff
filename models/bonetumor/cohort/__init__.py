"""Cohorts on disk: who, which images and boxes, which slides and blood, which class."""
