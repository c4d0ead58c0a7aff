"""How bonetumor speaks DICOM: receiving, reading images, sending, structured reports."""
