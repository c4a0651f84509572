"""A *phantom*, a synthetic chest with known truth, and a *cohort* of DICOM series made of it."""
