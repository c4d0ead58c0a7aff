"""How bonetumor speaks FHIR R4: patient, blood, pathology in; reports out."""
