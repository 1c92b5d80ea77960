"""Whole clusters on this machine, as child processes: for neosimple, tests and measurements."""
