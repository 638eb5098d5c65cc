"""Parameters, layers, losses, optimisers, data, training, and the models of the lectures."""
