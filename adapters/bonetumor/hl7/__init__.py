"""HL7 version 2: results for EHRs that take no FHIR."""
