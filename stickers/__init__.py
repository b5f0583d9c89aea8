"""How the embedded sticker models are made: the world, the training and the evaluation."""
