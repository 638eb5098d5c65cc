"""`python -m chainrule` is the `chainrule` command."""

from .cli import main

main(prog_name="chainrule")
