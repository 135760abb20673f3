"""What watches a run: the console, the metrics file, TensorBoard, checkpoints, evaluation."""
