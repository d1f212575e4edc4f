"""How fast the program is on this machine: network, whole study, growing work, training."""
