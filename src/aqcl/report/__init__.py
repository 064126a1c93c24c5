"""Reports: one self-contained HTML page of runs, of a study or of the paper's tables."""
