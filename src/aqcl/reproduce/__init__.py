"""The paper's tables and figures: specifications as data, runs, outcomes, pages."""
