"""A virtual world that runs the real nodes: network, clocks and disks obey a seed.

`tools/simulate` runs many seeds.  See `run.py` for what one of them does.
"""
