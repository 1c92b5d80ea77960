"""How nodes run for real: sockets, clocks, threads, signals, logs."""
