"""The synthetic cohort: radiographs, slides and blood markers with known truth.

Nobody in it exists. Everything is drawn from seeds.
"""
