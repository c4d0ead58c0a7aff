"""What bonetumor is about: values that are valid once built and ignorant of their wire formats."""
