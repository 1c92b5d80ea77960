"""What all nodes share: the contract of a node, ids, the table of nodes, the partition table."""
