"""The interfaces of other packages over this one, so that what was written for them runs."""
