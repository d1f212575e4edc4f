"""What the thesis' cells show: Table 1, the gap between splits, factors, conventions of scoring."""
