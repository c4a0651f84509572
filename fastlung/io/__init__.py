"""Where bytes come from and go to: stores, source groups, DICOM, files of results, records."""
