"""
Pure functions on a volume and its grid.

Nouns: *Hounsfield units* and windows of them; *bands* say what each output sample is made of;
*resampling* applies them along three axes; *orientation* turns axes to the patient's; a *crop*
cuts to a box.
"""
