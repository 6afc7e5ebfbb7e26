"""From encoded frames to crops in a batch: one interface, one file per decoder."""
