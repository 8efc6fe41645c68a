"""`python -m agentkit_reporting.cli`: the command line where the console script is not on the path."""

from agentkit_reporting.cli import main

main()
