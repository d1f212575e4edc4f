"""Five-fold cross-validation of the network that ships: train, choose, predict, compare; and studies of one's own."""
