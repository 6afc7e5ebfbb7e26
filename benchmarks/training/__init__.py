"""What models compute and a training step costs, beside the published form."""
