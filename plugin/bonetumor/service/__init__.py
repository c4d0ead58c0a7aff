"""The story of a study, told through ports."""
