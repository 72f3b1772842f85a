"""Names of a cohort's files and columns."""

SAMPLES_FILE = "samples.csv"
SCANS_FILE = "scans.csv"
SPECTRA_FILE = "spectra.npy"
AXIS_FILE = "axis.npy"
# A cohort of covariates alone has none of them.
SPECTRAL_FILES = (SCANS_FILE, SPECTRA_FILE, AXIS_FILE)
SAMPLE_ID, SCAN = "sample_id", "scan"
