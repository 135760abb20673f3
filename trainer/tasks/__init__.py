"""One file a task: how an example becomes targets, which head, which loss."""
