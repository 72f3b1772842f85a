"""The run's page in a real browser, offline."""
