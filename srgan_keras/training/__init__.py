"""Training: the model and its steps, the loop around them, and what they need of the machine."""
