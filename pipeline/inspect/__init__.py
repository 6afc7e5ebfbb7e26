"""Contact sheets of clip pairs as the model sees them."""
