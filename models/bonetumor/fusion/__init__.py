"""Weighing image, pathology and blood: encoders, fusion network, calibration."""

from bonetumor.weights.vision import load_torchvision

# The one thing that happens at import: transformers imports torchvision when its models are
# imported, and dies with it where torchvision was built for CUDA and torch was not.
load_torchvision()
