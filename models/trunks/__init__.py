"""The network of one stream: I3D, and torchvision's video networks."""
