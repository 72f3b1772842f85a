"""From scans as instruments leave them to a cohort's folder: axis, filters, covariates, writing."""
