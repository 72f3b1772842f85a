"""Cohorts, splits, transforms, batches and readers: data only, without the event engine."""
