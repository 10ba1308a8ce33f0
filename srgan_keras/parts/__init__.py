"""What systems are made of: layers, losses and optimizers, each with its settings."""
