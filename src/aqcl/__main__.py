"""`python -m aqcl`: the command line, with the current directory among those of modules."""

from aqcl.cli import main

main()
