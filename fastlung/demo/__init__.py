"""A synthetic chest with known truth, and a small cohort of DICOM series made of it."""
