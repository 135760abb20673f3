"""Loading, attention and the head of the model that is trained."""
