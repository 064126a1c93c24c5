"""Names of the files of a study directory that others read."""

from typing import Final

STUDY: Final = "study.toml"
"""The resolved settings of a study."""
FINDINGS: Final = "study.json"
"""What a study has found."""
