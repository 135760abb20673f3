"""What will happen: batch arithmetic, parameters, memory and the DeepSpeed JSON. Nothing here imports torch."""
