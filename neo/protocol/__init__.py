"""What is said between nodes: types, the table of packets, the codec and its versions."""
